"""Exchange datasets with the real lerobot package; runs in lerobot's environment. argv: our interpreter.

Prints one line per check and exits with 1 at the first that fails.
"""

import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np


def declare_missing_operators():
    """Let torchvision be imported where its compiled part does not fit torch (a CPU build beside a CUDA wheel).

    Only names of operators are declared; nothing here calls them.
    """
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for _ in range(50):
        try:
            import torchvision  # noqa: F401
        except RuntimeError as error:
            words = str(error).split()
            name = next((word.split("::")[1] for word in words if word.startswith("torchvision::")), None)
            if name is None:
                raise
            library.define(f"{name}(Tensor a) -> Tensor")
            for module in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
                del sys.modules[module]
        else:
            return library
    raise RuntimeError("torchvision cannot be imported")


_LIBRARY = declare_missing_operators()

from lerobot.datasets.lerobot_dataset import CODEBASE_VERSION, LeRobotDataset  # noqa: E402

SIDE = 16
KEYS = {"exterior_image_1_left": "image_left", "wrist_image_left": "image_wrist"}


def check(what, condition, found=""):
    print(f"{'ok' if condition else 'FAILED'}  {what} {found}", flush=True)
    if not condition:
        sys.exit(1)


def as_uint8(image):
    return (np.asarray(image).transpose(1, 2, 0) * 255).round().astype(int)


def check_load(root, expected, exact):
    name = root.name
    dataset = LeRobotDataset("robosteer/check", root=root)
    check(f"{name}: rows", len(dataset) == len(expected["state"]), len(dataset))
    check(f"{name}: episodes", dataset.num_episodes == len(expected["lengths"]))
    starts = np.repeat(np.arange(len(expected["lengths"])), expected["lengths"])
    worst = 0
    for i in range(len(dataset)):
        row = dataset[i]
        assert np.array_equal(row["joint_position"], expected["state"][i, :7]), i
        assert float(row["gripper_position"]) == expected["state"][i, 7], i
        assert np.array_equal(row["actions"], expected["actions"][i]), i
        assert row["task"] == expected["prompts"][starts[i]], i
        assert int(row["episode_index"]) == starts[i], i
        for key, source in KEYS.items():
            truth = expected[source if exact else f"{CODEBASE_VERSION}_{key}"][i]
            worst = max(worst, np.abs(as_uint8(row[key]) - truth).mean())
    check(f"{name}: every row's numbers and task", True)
    check(f"{name}: every row's images", worst == 0 if exact else worst < 2, f"(mean difference at most {worst:.2f})")
    fps = dataset.fps
    chunks = LeRobotDataset("robosteer/check", root=root, delta_timestamps={"actions": [t / fps for t in range(10)]})
    last = int(expected["lengths"][0]) - 3
    wanted = expected["actions"][np.minimum(last + np.arange(10), expected["lengths"][0] - 1)]
    check(f"{name}: action chunks end with the episode", np.array_equal(chunks[last]["actions"], wanted))
    stats = dataset.meta.stats["actions"]
    close = np.allclose(stats["mean"], expected["actions"].mean(0), atol=1e-5)
    check(f"{name}: statistics", close and np.allclose(stats["std"], expected["actions"].std(0), atol=1e-5))


def write_with_lerobot(root, kind):
    """Two episodes in lerobot's own writing, with DROID's keys."""
    image = {"dtype": kind, "shape": (SIDE * 4, SIDE * 4, 3), "names": ["height", "width", "channel"]}
    vector = lambda n: {"dtype": "float32", "shape": (n,), "names": [f"v{i}" for i in range(n)]}  # noqa: E731
    features = {
        **dict.fromkeys(KEYS, image),
        "joint_position": vector(7),
        "gripper_position": vector(1),
        "actions": vector(8),
    }
    dataset = LeRobotDataset.create("robosteer/back", 15, features, root=root, use_videos=kind == "video")
    rows = []
    for episode in range(2):
        for i in range(12):
            shade = np.linspace(0, 200, SIDE * 4)[:, None, None] + np.zeros((SIDE * 4, SIDE * 4, 3)) + 3 * i
            row = {
                **{key: shade.astype(np.uint8) for key in KEYS},
                "joint_position": np.full(7, 0.01 * i, np.float32),
                "gripper_position": np.array([i / 12], np.float32),
                "actions": np.append(np.full(7, 0.1), episode).astype(np.float32),
            }
            rows.append(row)
            if CODEBASE_VERSION == "v2.1":
                dataset.add_frame(dict(row), task=f"task {episode}")
            else:
                dataset.add_frame({**row, "task": f"task {episode}"})
        dataset.save_episode()
    if hasattr(dataset, "finalize"):
        dataset.finalize()
    return rows


def main():
    ours = sys.argv[1]
    here = Path(__file__).parent
    form = CODEBASE_VERSION
    print(f"lerobot {importlib.metadata.version('lerobot')}, format {form}")
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        subprocess.run([ours, here / "our_side.py", "export", place], check=True)
        expected = dict(np.load(place / "expected.npz"))
        for kind in ("png", "video"):
            check_load(place / f"{form}-{kind}", expected, exact=kind == "png")
        for kind in ("image", "video"):
            rows = write_with_lerobot(place / f"theirs-{kind}", kind)
            out = place / f"back-{kind}"
            out.mkdir()
            subprocess.run([ours, here / "our_side.py", "import", place / f"theirs-{kind}", out], check=True)
            found = np.load(out / "imported.npz")
            check(f"import {kind}: rows", len(found["state"]) == len(rows))
            same = all(np.array_equal(found["actions"][i], row["actions"]) for i, row in enumerate(rows))
            check(f"import {kind}: actions", same)
            same = all(np.allclose(found["state"][i, 7], row["gripper_position"]) for i, row in enumerate(rows))
            check(f"import {kind}: state", same and found["prompts"].tolist() == ["task 0", "task 1"])
            # Their encoder may repeat a frame: what counts is that both read the same out of the file.
            theirs = LeRobotDataset("robosteer/back", root=place / f"theirs-{kind}")
            means = [as_uint8(theirs[i]["wrist_image_left"]).mean() for i in range(len(rows))]
            worst = max(abs(found["image_wrist"][i].mean() - mean) for i, mean in enumerate(means))
            check(f"import {kind}: images", worst < 1, f"(mean brightness differs by at most {worst:.2f})")


if __name__ == "__main__":
    main()
