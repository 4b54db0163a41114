"""The dataset: aligned frames of many episodes, memory-mapped, in a store that never converts an episode twice.

dataset/dataset.json                         schema, rig, settings and the list of episodes
dataset/episodes/<key>/meta.json             one episode; <key> digests its bag, its label, the rig and the settings
dataset/episodes/<key>/frames.parquet        state, actions, stamps, ages
dataset/episodes/<key>/images_<camera>.npy   (n, s, s, 3) uint8
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_rig.fields import FieldError, build, plain, show
from robosteer_rig.rig import Rig, parse_rig
from robosteer_training.image_files import ImageStack, open_images
from robosteer_training.keyframes import Selection, select_frames

DATASET_SCHEMA = "robosteer.dataset/1"
EPISODE_SCHEMA = "robosteer.dataset_episode/1"
DATASET_FILE = "dataset.json"
META_FILE = "meta.json"
FRAMES_FILE = "frames.parquet"
STATE_SIZE = 8
_KEY = re.compile(r"[0-9a-f]{32}")


@dataclasses.dataclass(frozen=True)
class EpisodeMeta:
    """One converted episode.

    Attributes:
        schema: version of this record.
        key: name of its directory in the store.
        source: directory of the recording.
        instruction: what was shown.
        outcome: success, failure, ... or unknown.
        frames: number of frames n.
        trimmed: idle frames dropped before and after.
        stale_frames: frames with an input older than the rig allows.
        stream_counts: stream -> messages received, duplicates, gaps and so on.
        max_age_s: stream -> largest age of an input, s.
        bag_sha256: digest of the recording.
        replay: how far the tool ends up from the measured one when the actions are replayed, m (`ReplayError`).
    """

    schema: str
    key: str
    source: str
    instruction: str
    outcome: str
    frames: int
    trimmed: tuple[int, ...]
    stale_frames: int
    stream_counts: dict[str, dict[str, int]]
    max_age_s: dict[str, float]
    bag_sha256: str
    replay: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _Index:
    """Content of dataset.json."""

    schema: str
    rig: str
    rig_digest: str
    rate_hz: float
    cameras: tuple[str, ...]
    episodes: tuple[str, ...]
    selection: Selection = dataclasses.field(default_factory=Selection)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Frames of all episodes, one after the other (N frames, E episodes).

    Attributes:
        path: directory of the store.
        rig: what the robot is; its action says the rate of these frames and what u = 1 means in them.
        rate_hz: of the frames.
        episodes: what is known about each episode.
        images: camera name -> (N, s, s, 3) uint8 RGB, read from disk when indexed.
        state: (N, 8) float32, seven joint positions in rad and the gripper (0 open ... 1 closed).
        actions: (N, 8) float32, seven normalised joint velocities u and the gripper command.
        joint_velocity: (N, 7) float32 measured rad/s.
        episode_index: (N,) int32, non-decreasing.
        stamp_ns: (N,) int64, t_k of each frame.
        stale: (N,) bool, an input was older than the rig allows.
        selected: (N,) bool, the frames that were chosen to be scored and trained on.
    """

    path: Path
    rig: Rig
    rate_hz: float
    episodes: tuple[EpisodeMeta, ...]
    images: dict[str, ImageStack]
    state: np.ndarray
    actions: np.ndarray
    joint_velocity: np.ndarray
    episode_index: np.ndarray
    stamp_ns: np.ndarray
    stale: np.ndarray
    selected: np.ndarray

    def __len__(self) -> int:
        return len(self.state)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The instruction of each episode."""
        return tuple(episode.instruction for episode in self.episodes)

    @property
    def duration_s(self) -> float:
        """Length of all episodes together, s."""
        return len(self) / self.rate_hz

    @property
    def usable(self) -> np.ndarray:
        """(N,) bool, frames to score and train on: selected and not stale."""
        return self.selected & ~self.stale

    def rows(self, episode: int) -> slice:
        """The frames of one episode."""
        start, stop = np.searchsorted(self.episode_index, [episode, episode + 1])
        return slice(int(start), int(stop))

    def digest(self) -> str:
        """Identifies the content: equal for equal episodes, rig, settings and selection, wherever the store lies."""
        chosen = np.packbits(self.selected).tobytes() if not self.selected.all() else b""
        return hashlib.sha256("\n".join(episode.key for episode in self.episodes).encode() + chosen).hexdigest()


def load_dataset(path: str | Path) -> Dataset:
    """Open a store; images stay on disk.

    Raises:
        RobosteerError: when it is no store, incomplete or damaged; the message names the file.
    """
    path = Path(path)
    file = path / DATASET_FILE
    if path.is_file():
        raise RobosteerError(f"dataset {path}: found a file, expected a directory that `robosteer convert` made")
    try:
        content = build(_Index, read_json(file, DATASET_SCHEMA))
    except FieldError as error:
        raise RobosteerError(f"{file}: {error}; convert again") from None
    if not content.episodes or not all(_KEY.fullmatch(key) for key in content.episodes):
        raise RobosteerError(f"{file}: found {show(content.episodes)}, expected keys of episodes; convert again")
    rig = parse_rig(content.rig, source=f"{file}: rig")
    metas, images, columns = load_episodes(path / "episodes", content.episodes, content.cameras, rig)
    index = np.repeat(np.arange(len(metas), dtype=np.int32), [meta.frames for meta in metas])
    selected = _select(index, columns, content.selection)
    return Dataset(
        path=path,
        rig=rig,
        rate_hz=content.rate_hz,
        episodes=metas,
        images=images,
        episode_index=index,
        selected=selected,
        **columns,
    )


def _select(index: np.ndarray, columns: dict[str, np.ndarray], selection: Selection) -> np.ndarray:
    borders = np.flatnonzero(np.diff(index)) + 1
    episodes = zip(*(np.split(columns[name], borders) for name in ("actions", "joint_velocity")), strict=True)
    return np.concatenate([select_frames(actions, velocity, selection) for actions, velocity in episodes])


def load_episodes(
    directory: Path, keys: Sequence[str], cameras: Sequence[str], rig: Rig
) -> tuple[tuple[EpisodeMeta, ...], dict[str, ImageStack], dict[str, np.ndarray]]:
    """Open some episodes of a store.

    Args:
        directory: the store's episodes/.
        keys: names of the episodes.
        cameras: names of the cameras.
        rig: gives the image sizes.

    Returns:
        Records, images by camera, and the columns state, actions, joint_velocity, stamp_ns and stale.

    Raises:
        RobosteerError: for a missing or damaged file.
    """
    for camera in cameras:
        if camera not in rig.cameras:
            raise RobosteerError(f"{directory}: found camera {camera!r}, expected one of {', '.join(rig.cameras)}")
    directories = [directory / key for key in keys]
    metas = tuple(read_meta(d) for d in directories)
    tables = [_read_frames(d, meta.frames) for d, meta in zip(directories, metas, strict=True)]
    images = {camera: _open_camera(directories, metas, camera, rig) for camera in cameras}
    return metas, images, {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _open_camera(directories: list[Path], metas: tuple[EpisodeMeta, ...], camera: str, rig: Rig) -> ImageStack:
    side = rig.cameras[camera].output_size
    parts = [
        open_images(directory / f"images_{camera}.npy", (meta.frames, side, side, 3))
        for directory, meta in zip(directories, metas, strict=True)
    ]
    return ImageStack(parts)


def read_json(path: Path, schema: str) -> dict[str, Any]:
    """Read one of the store's JSON files.

    Raises:
        RobosteerError: when it is missing, damaged or of another schema.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RobosteerError(f"{path}: found no such file, expected {schema}; run `robosteer convert`") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RobosteerError(f"{path}: found a damaged file ({show(str(error))}), expected {schema}") from None
    found = content.get("schema") if isinstance(content, dict) else None
    if found != schema:
        raise RobosteerError(f"{path}: found schema {show(found)}, expected {schema}; convert again")
    return content


def read_meta(directory: Path) -> EpisodeMeta:
    """Read an episode's record.

    Raises:
        RobosteerError: when it is missing or damaged.
    """
    file = directory / META_FILE
    try:
        return build(EpisodeMeta, read_json(file, EPISODE_SCHEMA))
    except FieldError as error:
        raise RobosteerError(f"{file}: {error}; convert again") from None


def meta_json(meta: EpisodeMeta) -> dict[str, Any]:
    """Plain data of an episode's record; `read_meta` is the inverse."""
    return plain(meta)


def _read_frames(directory: Path, frames: int) -> dict[str, np.ndarray]:
    import pyarrow as pa
    from pyarrow import parquet

    file = directory / FRAMES_FILE
    try:
        table = parquet.read_table(file)
        columns = {
            "state": _matrix(table["state"], STATE_SIZE),
            "actions": _matrix(table["actions"], STATE_SIZE),
            "joint_velocity": _matrix(table["joint_velocity"], 7),
            "stamp_ns": table["stamp_ns"].to_numpy().astype(np.int64),
            "stale": table["stale"].to_numpy().astype(bool),
        }
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise RobosteerError(f"{file}: found a damaged file ({show(str(error))}); convert again") from None
    if any(len(column) != frames for column in columns.values()):
        raise RobosteerError(f"{file}: found {table.num_rows} rows, expected {frames}; convert again")
    return columns


def _matrix(column: Any, width: int) -> np.ndarray:
    flat = np.asarray(column.combine_chunks().flatten().to_numpy(zero_copy_only=False), dtype=np.float32)
    return flat.reshape(-1, width)
