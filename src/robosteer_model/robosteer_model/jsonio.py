"""Strict JSON: size-limited, no NaN, and errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from robosteer_model.errors import ModelError

MAX_JSON_BYTES = 64 * 1024 * 1024


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def parse_json(text: str | bytes, what: str) -> Any:
    """Parse JSON; NaN and infinities are refused.

    Args:
        text: the document.
        what: how error messages call it.

    Raises:
        ModelError: when it is not valid JSON.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{what}: found invalid JSON ({error}), expected a JSON document; restore the file") from None


def read_json(path: Path) -> Any:
    """Read a JSON file of at most `MAX_JSON_BYTES`.

    Raises:
        ModelError: when it is missing, too large or invalid.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_JSON_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path}: found {error.strerror}, expected a readable JSON file") from None
    if len(data) > MAX_JSON_BYTES:
        raise ModelError(f"{path}: found more than {MAX_JSON_BYTES} bytes, expected a small JSON file")
    return parse_json(data, str(path))
