"""Write a dataset in LeRobot's format v2.1 or v3.0, and prove by decoding that every row has its frame."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from robosteer_rig.errors import RobosteerError
from robosteer_training.dataset import Dataset
from robosteer_training.files import write_bytes, write_json
from robosteer_training.lerobot import layout
from robosteer_training.lerobot.files_v21 import WriterV21
from robosteer_training.lerobot.files_v30 import WriterV30
from robosteer_training.lerobot.layout import ImageKind, Version
from robosteer_training.lerobot.rows import columns_of, episode_stats, tables
from robosteer_training.lerobot.verify import Verified, verify

DEFAULT_IMAGES: dict[Version, ImageKind] = {"v2.1": "png", "v3.0": "video"}
_README = """# {name}

Exported by RoboSteer as LeRobot {version}. {episodes} episodes, {frames} frames at {fps} Hz.

`actions`: seven joint velocities, 1 = {unit:g} rad/s, and the gripper command (0 open, 1 closed).
`meta/robosteer.json` holds the contract of the robot.
"""


def refuse_existing(out: Path) -> None:
    """A directory of that name may be somebody's data.

    Raises:
        RobosteerError: when it exists.
    """
    if out.exists():
        raise RobosteerError(f"--out: found something at {out}, expected nothing; choose another name")


def export_lerobot(
    dataset: Dataset,
    out: Path,
    *,
    version: Version = "v2.1",
    images: ImageKind | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verified:
    """Export a dataset; the directory appears when it is complete and verified.

    Args:
        dataset: the store.
        out: directory that does not exist yet.
        version: of the format.
        images: png is exact, video small; by default png for v2.1 (as openpi's examples) and video for v3.0.
        progress: told the episodes that are written and their number.

    Returns:
        What was found by reading everything back.

    Raises:
        RobosteerError: when `out` exists, or what was written does not read back.
    """
    refuse_existing(out)
    partial = out.with_name(f"{out.name}.{os.getpid()}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _write(dataset, partial, version, images or DEFAULT_IMAGES[version], progress)
        verified = verify(partial)
        partial.rename(out)
    except (OSError, pa.ArrowException) as error:
        raise RobosteerError(f"{out}: cannot write ({error}); free some space or choose another --out") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return verified


def _write(
    dataset: Dataset, root: Path, version: Version, kind: ImageKind, progress: Callable[[int, int], None]
) -> None:
    fps = layout.whole_fps(dataset.rate_hz)
    columns = layout.features(dataset, kind)
    schema = layout.arrow_schema(columns)
    tasks = list(dict.fromkeys(dataset.prompts))
    writer = (WriterV21 if version == "v2.1" else WriterV30)(root, columns, schema, tasks, fps)
    with writer:
        for episode, prompt in enumerate(dataset.prompts):
            numbers = columns_of(dataset, episode, tasks.index(prompt), fps)
            stats = episode_stats(dataset, episode, numbers)
            cameras = {
                key: dataset.images[camera][dataset.rows(episode)]
                for key, camera in layout.image_keys(dataset).items()
                if columns[key].dtype == "video"
            }
            writer.add(episode, prompt, tables(dataset, episode, numbers, columns, schema), cameras, stats)
            progress(episode + 1, len(dataset.episodes))
    writer.finish({name: getattr(dataset, name) for name in ("state", "actions", "joint_velocity")})
    write_json(
        root / layout.INFO_FILE,
        layout.info_json(
            version, columns, fps=fps, episodes=len(dataset.episodes), frames=len(dataset), tasks=len(tasks)
        ),
    )
    write_json(root / layout.CONTRACT_FILE, _contract(dataset))
    text = _README.format(
        name=root.name.split(".")[0],
        version=version,
        episodes=len(dataset.episodes),
        frames=len(dataset),
        fps=fps,
        unit=dataset.rig.action.unit_rad_per_s,
    )
    write_bytes(root / "README.md", text.encode())


def _contract(dataset: Dataset) -> dict[str, Any]:
    """What LeRobot has no place for."""
    return {
        "schema": layout.CONTRACT_SCHEMA,
        "rig": dataset.rig.to_yaml(),
        "rig_digest": dataset.rig.digest(),
        "images": layout.image_keys(dataset),
        "start_ns": [int(dataset.stamp_ns[dataset.rows(e).start]) for e in range(len(dataset.episodes))],
        # The directories of this machine are left out: an export is made to be given away.
        "episodes": [dataclasses.asdict(e) | {"source": Path(e.source).name} for e in dataset.episodes],
    }
