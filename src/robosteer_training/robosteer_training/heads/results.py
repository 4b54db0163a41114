"""Results of analyses as JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robosteer_rig.errors import RobosteerError
from robosteer_training.files import write_json

if TYPE_CHECKING:
    from robosteer_training.heads.source import Source

SCHEMA = "robosteer.head_analysis/1"


def save_analysis(path: Path | None, kind: str, data: dict[str, Any], source: Source | None) -> dict[str, Any]:
    """Write an analysis, if a path is given; returns what is (or would be) written."""
    record = {"schema": SCHEMA, "kind": kind, **data}
    if source is not None:
        record["provenance"] = {"key": source.key, **source.provenance(source.rows)}
    if path is not None:
        write_json(path, record)
    return record


def read_analysis(path: Path) -> dict[str, Any]:
    """Read what `save_analysis` wrote.

    Raises:
        RobosteerError: no such file, or something else.
    """
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        raise RobosteerError(f"analysis: cannot read {path} ({error.strerror}); give another file") from error
    except ValueError as error:
        raise RobosteerError(f"analysis: {path} is not JSON ({error})") from error
    found = data.get("schema") if isinstance(data, dict) else type(data).__name__
    if found != SCHEMA:
        raise RobosteerError(f"{path}: found schema {found!r}, expected {SCHEMA!r}")
    return data
