"""`robosteer.json`: what RoboSteer knows about a checkpoint beyond openpi's files."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robosteer_model.checkpoint_layout import MANIFEST_FILE
from robosteer_model.config import ModelConfig
from robosteer_model.errors import ModelError
from robosteer_model.jsonio import read_json

SCHEMA = "robosteer.checkpoint/1"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What `robosteer.json` says; every field is None or empty when a stock checkpoint has no such file.

    Fields are those of `Checkpoint`; `files` holds the sha256 of every other file, by its path.
    """

    config: ModelConfig | None = None
    asset_id: str | None = None
    data_layout: str = "droid"
    rig: str | None = None
    action_convention: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    files: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read and validate the file.

        Raises:
            ModelError: for another schema, unknown fields or wrong types.
        """
        if not path.exists():
            return cls()
        data = read_json(path)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, dict) else type(data).__name__
            raise ModelError(f"{path}: found schema {found!r}, expected {SCHEMA!r}; update RoboSteer or drop the file")
        if not isinstance(data.get("model"), dict):
            raise ModelError(f"{path}: found no 'model' object, expected the model config")
        fields = {"asset_id": str, "data_layout": str, "rig": str}
        fields |= {"action_convention": dict, "provenance": dict, "files": dict}
        values: dict[str, Any] = {}
        for name, kind in fields.items():
            if data.get(name) is None:
                continue
            if not isinstance(data[name], kind):
                raise ModelError(f"{path}: {name}: found {type(data[name]).__name__}, expected {kind.__name__}")
            values[name] = data[name]
        if unknown := sorted(set(data) - set(fields) - {"schema", "model"}):
            raise ModelError(f"{path}: unknown fields {unknown}, expected some of {sorted(fields)}")
        return cls(config=ModelConfig.from_json(data["model"]), **values)


def file_digests(root: Path) -> dict[str, str]:
    """sha256 of every file below `root` but the manifest, by path."""
    paths = sorted(p for p in root.rglob("*") if p.is_file() and p != root / MANIFEST_FILE)
    digests = {}
    for path in paths:
        with path.open("rb") as stream:
            digests[path.relative_to(root).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests
