"""Images of an episode as one .npy file: written frame by frame, read as memory."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robosteer_rig.errors import RobosteerError


class NpyAppender:
    """Appends images of one shape to a .npy file without holding them in memory."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        """Create the file.

        Args:
            path: of the file.
            shape: of one image, for example (64, 64, 3).
        """
        self.count = 0
        self._shape = shape
        self._file = path.open("wb")
        self._write_header()

    def _write_header(self) -> None:
        buffer = io.BytesIO()
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.count, *self._shape)}
        # numpy pads this header so that the first number may grow in place.
        np.lib.format.write_array_header_1_0(buffer, header)
        self._file.write(buffer.getvalue())

    def append(self, image: np.ndarray) -> None:
        """Add one uint8 image of the file's shape."""
        if image.shape != self._shape or image.dtype != np.uint8:
            raise ValueError(f"image: {image.shape} {image.dtype}, expected {self._shape} uint8")
        self._file.write(np.ascontiguousarray(image).data)
        self.count += 1

    def close(self) -> None:
        """Write the final count and close."""
        if not self._file.closed:
            self._file.seek(0)
            self._write_header()
            self._file.close()


def keep_slice(path: Path, rows: slice) -> None:
    """Keep only some consecutive images of a .npy file, in constant memory: a mapped file would count as resident."""
    shorter = path.with_suffix(".kept.npy")
    with path.open("rb") as source:
        np.lib.format.read_magic(source)
        (count, *shape), _, _ = np.lib.format.read_array_header_1_0(source)
        start, stop, _ = rows.indices(count)
        size = int(np.prod(shape))
        source.seek(start * size, 1)
        target = NpyAppender(shorter, tuple(shape))
        for _ in range(start, stop):
            target.append(np.frombuffer(source.read(size), np.uint8).reshape(shape))
        target.close()
    shorter.replace(path)


def open_images(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Map a .npy file of uint8 images.

    Raises:
        RobosteerError: when it is missing, damaged or of another shape.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise RobosteerError(f"{path}: found a damaged file ({error}), expected images; convert again") from None
    if array.shape != shape or array.dtype != np.uint8:
        raise RobosteerError(f"{path}: found {array.shape} {array.dtype}, expected {shape} uint8; convert again")
    return array


class ImageStack:
    """Images of several episodes behind one index, as if they were one array (N, s, s, 3) uint8.

    Indexing with a number, a slice or an array of numbers reads only what is asked for.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        """Stack arrays (n_i, s, s, 3), memory-mapped or not."""
        self._parts = tuple(parts)
        self._starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
        self.shape: tuple[int, ...] = (int(self._starts[-1]), *parts[0].shape[1:])

    @property
    def ndim(self) -> int:
        """4."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """One image for a number, else (n, s, s, 3); further indices apply to the images."""
        if isinstance(index, tuple):
            first = self[index[0]]
            return first[index[1:]] if isinstance(index[0], (int, np.integer)) else first[(slice(None), *index[1:])]
        if isinstance(index, (int, np.integer)):
            return self._gather(np.array([index]))[0]
        if isinstance(index, slice):
            return self._gather(np.arange(*index.indices(len(self))))
        rows = np.asarray(index)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise IndexError(f"mask: found shape {rows.shape}, expected ({len(self)},)")
            rows = np.flatnonzero(rows)
        flat = self._gather(rows.reshape(-1).astype(np.int64))
        return flat.reshape(*rows.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Everything in memory."""
        return np.asarray(self[:], dtype=dtype)

    def _gather(self, rows: np.ndarray) -> np.ndarray:
        rows = np.where(rows < 0, rows + len(self), rows)
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"frame: found {rows.min()} ... {rows.max()}, expected 0 ... {len(self) - 1}")
        out = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        for part in np.unique(owner):
            mine = owner == part
            out[mine] = self._parts[part][rows[mine] - self._starts[part]]
        return out
