"""Files of one JSON record per line, on disk as soon as they are written; a line cut short by a crash is forgotten."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from robosteer_rig.errors import RobosteerError


def append_line(path: Path, record: Any) -> None:
    """Add a record; it is on disk when this returns.

    Raises:
        RobosteerError: the disk is full or the place is not writable.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RobosteerError(f"{path}: cannot write ({error.strerror}); check path and disk, then go on") from error


def read_lines(path: Path) -> list[Any]:
    """All whole records; what follows the last line break was cut short and is removed, so that nothing joins it.

    Raises:
        RobosteerError: a line that is no JSON.
    """
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:
        os.truncate(path, len(whole))
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        raise RobosteerError(f"{path}: found a damaged line ({error}), expected JSON; mend or delete it") from error
