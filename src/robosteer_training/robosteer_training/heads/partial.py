"""Arrays of unfinished work, so that an interrupted run goes on where it was."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from robosteer_training.files import remove, write_bytes


class PartialResult:
    """A file beside the result, valid for one key.

    Args:
        path: of the result; the work lies in `<path>.work.npz`. None keeps nothing.
        key: identifies inputs and settings; work of another key is ignored.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self._path = None if path is None else path.with_name(path.name + ".work.npz")
        self._key = key

    def load(self) -> dict[str, np.ndarray] | None:
        """What was saved, or None."""
        if self._path is None or not self._path.exists():
            return None
        try:
            with np.load(self._path, allow_pickle=False) as file:
                found = dict(file)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None
        return found if str(found.pop("key", "")) == self._key else None

    def save(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Replace what was saved, in one piece."""
        if self._path is None:
            return
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays, key=np.array(self._key))
        write_bytes(self._path, buffer.getvalue())

    def done(self) -> None:
        """Delete it."""
        if self._path is not None:
            remove(self._path)
