"""Write one episode into the store, frame by frame and in constant memory for the images."""

from __future__ import annotations

import array
import contextlib
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


class FrameColumns:
    """What is kept in memory of each frame: about 150 bytes."""

    def __init__(self) -> None:
        self.streams: tuple[str, ...] = ()
        self._stamp_ns, self._ages_ns = array.array("q"), array.array("q")
        self._state, self._joint_velocity = array.array("f"), array.array("f")
        self._stale = bytearray()

    def __len__(self) -> int:
        return len(self._stamp_ns)

    def append(self, frame: Frame) -> None:
        """Add a frame's numbers; all frames have the same streams."""
        self.streams = self.streams or tuple(frame.ages_ns)
        self._stamp_ns.append(frame.stamp_ns)
        self._state.extend(state_vector(frame).tolist())
        self._joint_velocity.extend(frame.joint_velocity.tolist())
        self._ages_ns.extend(frame.ages_ns[name] for name in self.streams)
        self._stale.append(bool(frame.stale))

    @property
    def stamp_ns(self) -> np.ndarray:
        """(n,) int64, t_k."""
        return np.array(self._stamp_ns, dtype=np.int64)

    @property
    def state(self) -> np.ndarray:
        """(n, 8) float32."""
        return np.array(self._state, dtype=np.float32).reshape(len(self), -1)

    @property
    def joint_velocity(self) -> np.ndarray:
        """(n, 7) float32, rad/s."""
        return np.array(self._joint_velocity, dtype=np.float32).reshape(len(self), -1)

    @property
    def ages_ns(self) -> dict[str, np.ndarray]:
        """Stream -> (n,) int64."""
        table = np.array(self._ages_ns, dtype=np.int64).reshape(len(self), -1)
        return {name: table[:, i] for i, name in enumerate(self.streams)}

    @property
    def stale(self) -> np.ndarray:
        """(n,) bool, an input was too old."""
        return np.array(self._stale, dtype=bool)


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
        if rows != slice(0, len(self.columns)):
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

    arrays: dict[str, pa.Array] = {
        "stamp_ns": pa.array(columns.stamp_ns[rows]),
        "state": matrix(columns.state[rows]),
        "actions": matrix(actions[rows]),
        "joint_velocity": matrix(columns.joint_velocity[rows]),
        "stale": pa.array(columns.stale[rows]),
    }
    arrays |= {f"age_ns.{name}": pa.array(age[rows]) for name, age in columns.ages_ns.items()}
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
