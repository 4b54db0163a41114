"""Files and directories that are either whole or absent, and digests of what they hold."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from robosteer_rig.errors import RobosteerError


def write_file(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Write a file in one piece: a reader sees the old content or the new one, never a part.

    Args:
        path: of the file.
        fill: writes the content into an open file.

    Raises:
        RobosteerError: the disk is full or the place is not writable; the old file is intact.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # What went wrong above is what counts.
            partial.unlink(missing_ok=True)
        raise RobosteerError(f"{path}: cannot write ({error.strerror}); free some space or choose --out") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes as `write_file` does."""
    write_file(path, lambda file: file.write(data))


def write_json(path: Path, data: Any) -> None:
    """Write indented JSON in one piece."""
    write_bytes(path, (json.dumps(data, indent=2, allow_nan=False) + "\n").encode())


@contextlib.contextmanager
def alone(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """What several processes may make at `path` is made by one of them; the others wait until it has left the block.

    The lock, `<path>.lock`, stays as an empty file; it is free again when its process ends, however it does.

    Args:
        path: of what is made.
        waiting: called when another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove(path: Path) -> None:
    """Delete a file or a tree, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def json_digest(data: Any) -> str:
    """sha256 of canonical JSON."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
