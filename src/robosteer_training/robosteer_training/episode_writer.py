"""Write one episode into the store, frame by frame and in constant memory for the images."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from robosteer_rig.droid import state_vector
from robosteer_rig.errors import RobosteerError
from robosteer_rig.frame import Frame
from robosteer_rig.rig import Rig
from robosteer_training.dataset import FRAMES_FILE, META_FILE, EpisodeMeta, meta_json
from robosteer_training.files import write_json
from robosteer_training.image_files import NpyAppender, keep_slice


@dataclasses.dataclass
class FrameColumns:
    """What is kept in memory of each frame: about 150 bytes.

    Attributes:
        stamp_ns: t_k.
        state: (8,) float32 each.
        joint_velocity: (7,) float32 each, rad/s.
        ages_ns: stream -> age.
        stale: an input was too old.
    """

    stamp_ns: list[int] = dataclasses.field(default_factory=list)
    state: list[np.ndarray] = dataclasses.field(default_factory=list)
    joint_velocity: list[np.ndarray] = dataclasses.field(default_factory=list)
    ages_ns: list[dict[str, int]] = dataclasses.field(default_factory=list)
    stale: list[bool] = dataclasses.field(default_factory=list)

    def append(self, frame: Frame) -> None:
        """Add a frame's numbers."""
        self.stamp_ns.append(frame.stamp_ns)
        self.state.append(state_vector(frame))
        self.joint_velocity.append(frame.joint_velocity.astype(np.float32))
        self.ages_ns.append(frame.ages_ns)
        self.stale.append(bool(frame.stale))


class EpisodeWriter:
    """Writes into a directory that nobody takes for an episode until it is renamed."""

    def __init__(self, directory: Path, rig: Rig, cameras: tuple[str, ...]) -> None:
        """Create the image files.

        Args:
            directory: exists and is empty.
            rig: gives the image sizes.
            cameras: names of the cameras to store.
        """
        self.columns = FrameColumns()
        self._directory = directory
        self._files = {}
        for name in cameras:
            side = rig.cameras[name].output_size
            self._files[name] = NpyAppender(self._image_path(name), (side, side, 3))

    def _image_path(self, camera: str) -> Path:
        return self._directory / f"images_{camera}.npy"

    def append(self, frame: Frame) -> None:
        """Add a frame."""
        for name, file in self._files.items():
            file.append(frame.images[name])
        self.columns.append(frame)

    def close(self) -> None:
        """Close the image files."""
        for file in self._files.values():
            file.close()

    def finish(self, actions: np.ndarray, rows: slice, meta: EpisodeMeta) -> None:
        """Keep some consecutive frames and write everything else.

        Args:
            actions: (frames written, 8) float32; those of frames outside `rows` are ignored.
            rows: the frames to keep.
            meta: the episode's record.
        """
        self.close()
        if rows != slice(0, len(self.columns.stamp_ns)):
            for name in self._files:
                keep_slice(self._image_path(name), rows)
        write_frames(self._directory / FRAMES_FILE, self.columns, actions, rows)
        write_json(self._directory / META_FILE, meta_json(meta))


def write_frames(path: Path, columns: FrameColumns, actions: np.ndarray, rows: slice) -> None:
    """Write the numbers of the kept frames as parquet."""
    import pyarrow as pa
    from pyarrow import parquet

    def matrix(array: np.ndarray) -> pa.Array:
        flat = pa.array(np.ascontiguousarray(array, dtype=np.float32).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, array.shape[1])

    ages = columns.ages_ns[rows]
    arrays: dict[str, pa.Array] = {
        "stamp_ns": pa.array(columns.stamp_ns[rows], pa.int64()),
        "state": matrix(np.stack(columns.state[rows])),
        "actions": matrix(actions[rows]),
        "joint_velocity": matrix(np.stack(columns.joint_velocity[rows])),
        "stale": pa.array(columns.stale[rows], pa.bool_()),
    }
    arrays |= {f"age_ns.{name}": pa.array([age[name] for age in ages], pa.int64()) for name in ages[0]}
    parquet.write_table(pa.table(arrays), path)


@contextlib.contextmanager
def new_directory(final: Path) -> Iterator[Path]:
    """A directory that becomes `final` when the block succeeds and disappears when it does not.

    Two processes may write the same `final`; the first wins, the content is the same.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(final)
    partial = final.with_name(f"{final.name}.{os.getpid()}.partial")
    try:
        partial.mkdir()
        yield partial
        with contextlib.suppress(FileExistsError):
            _rename_new(partial, final)
    except OSError as error:
        raise RobosteerError(f"{final.parent}: found {error.strerror}, expected a writable disk with space") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _rename_new(partial: Path, final: Path) -> None:
    if final.exists():
        raise FileExistsError(final)
    for file in partial.iterdir():
        _synchronise(file)
    _synchronise(partial)
    try:
        partial.rename(final)
    except OSError:
        if not final.exists():
            raise
    _synchronise(final.parent)


def _synchronise(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_abandoned(final: Path) -> None:
    """Delete what killed processes left of an episode."""
    for path in final.parent.glob(f"{final.name}.*.partial"):
        owner = path.name.split(".")[-2]
        if owner.isdigit() and int(owner) != os.getpid() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(path, ignore_errors=True)
