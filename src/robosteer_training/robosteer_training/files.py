"""Files and directories that are either whole or absent, and digests of what they hold."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robosteer_rig.errors import RobosteerError


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file in one piece: a reader sees the old content or the new one, never a part.

    Raises:
        RobosteerError: the disk is full or the place is not writable; the old file is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise RobosteerError(f"{path}: cannot write ({error.strerror}); free some space or choose --out") from error


def write_json(path: Path, data: Any) -> None:
    """Write indented JSON in one piece."""
    write_bytes(path, (json.dumps(data, indent=2, allow_nan=False) + "\n").encode())


def remove(path: Path) -> None:
    """Delete a file or a tree, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def array_digest(array: np.ndarray) -> str:
    """sha256 over shape, dtype and bytes."""
    array = np.asarray(array)
    digest = hashlib.sha256(f"{array.shape}{array.dtype}".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def arrays_digest(arrays: Mapping[str, Any]) -> str:
    """sha256 over named arrays, independent of their order."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name}={array_digest(arrays[name])}\n".encode())
    return digest.hexdigest()


def json_digest(data: Any) -> str:
    """sha256 of canonical JSON."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
