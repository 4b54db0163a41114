"""Whether something can be written, asked before the work whose result it is to take."""

from __future__ import annotations

import os
from pathlib import Path

from robosteer_rig.errors import RobosteerError


def require_writable(path: Path, name: str) -> None:
    """Refuse a file or directory that could not be created; nothing is created.

    Args:
        path: what is to be written.
        name: what the user calls it, such as `--out`.

    Raises:
        RobosteerError: when what lies on the way is no directory, or one that this user may not write into.
    """
    for place in (path.absolute(), *path.absolute().parents):
        if place.is_dir():
            if not os.access(place, os.W_OK | os.X_OK):
                raise RobosteerError(f"{name}: found {place}, which you may not write into; choose another for {path}")
            return
        if os.path.lexists(place) and place != path.absolute():
            raise RobosteerError(f"{name}: found {place}, expected a directory on the way to {path}; choose another")


def require_writable_directory(path: Path, name: str) -> None:
    """Refuse a directory that could not be created or written into; nothing is created.

    Args:
        path: the directory.
        name: what the user calls it, such as `--out`.

    Raises:
        RobosteerError: as `require_writable`, and when a file has that name.
    """
    require_writable(path, name)
    if os.path.lexists(path) and not path.is_dir():
        raise RobosteerError(f"{name}: found a file at {path.absolute()}, expected a directory; choose another")
