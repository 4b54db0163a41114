"""Our half of the conformance check; runs with our interpreter. argv: export DIRECTORY | import LEROBOT DIRECTORY.

export: convert two synthetic recordings and export them in every form, with the expected content in expected.npz.
import: take a dataset that lerobot wrote into a store and write what it holds to imported.npz.
"""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np

from robosteer_rig.parts import Crop
from robosteer_training.convert import convert_bags
from robosteer_training.lerobot.export import export_lerobot
from robosteer_training.lerobot.importing import import_lerobot
from robosteer_training.lerobot.reader import LeRobotReader

HERE = Path(__file__).parent
FORMS = [(version, images) for version in ("v2.1", "v3.0") for images in ("png", "video")]


def bags():
    """The module with the synthetic recordings, beside this directory."""
    spec = importlib.util.spec_from_file_location("synthetic_bag", HERE.parent / "synthetic_bag.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["synthetic_bag"] = module
    spec.loader.exec_module(module)
    return module


def square_rig():
    """Cameras of 64x64, all of which the policy sees, made smaller."""
    rig = bags().bench_rig()
    square = {"width": 64, "height": 64, "crop": Crop(0, 0, 64)}
    cameras = {name: dataclasses.replace(camera, **square) for name, camera in rig.cameras.items()}
    return dataclasses.replace(rig, cameras=cameras)


def arrays(data):
    images = {f"image_{name}": np.asarray(stack[:]) for name, stack in data.images.items()}
    lengths = [episode.frames for episode in data.episodes]
    return {"state": data.state, "actions": data.actions, "lengths": lengths, "prompts": data.prompts, **images}


def frames_of(root, key):
    """All frames of an export's video, as PyAV decodes them."""
    reader = LeRobotReader(root)
    return np.stack([image for episode in reader.episodes for image in reader.images(episode, key)])


def main():
    if sys.argv[1] == "import":
        source, place = map(Path, sys.argv[2:])
        data = import_lerobot(source, place / "store", square_rig())
        np.savez(place / "imported.npz", **arrays(data))
        return
    place, synthetic = Path(sys.argv[2]), bags()
    for i in range(2):
        script = synthetic.Script(seconds=2.0 + i, stop_s=1.8, seed=10 * i)
        synthetic.write_episode(place / f"demos/{i}", synthetic.bench_rig(), script)
    data = convert_bags(place / "demos", place / "store")
    for version, images in FORMS:
        export_lerobot(data, place / f"{version}-{images}", version=version, images=images)
    decoded = {
        f"{version}_{key}": frames_of(place / f"{version}-video", key)
        for version in ("v2.1", "v3.0")
        for key in data.rig.policy_cameras
    }
    np.savez(place / "expected.npz", **arrays(data), **decoded)


if __name__ == "__main__":
    main()
