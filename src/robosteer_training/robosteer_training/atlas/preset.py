"""A preset for live steering from value vectors that were found, with the recipe that found them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from robosteer_rig.errors import RobosteerError
from robosteer_training.atlas.search import Found
from robosteer_training.atlas.store import Atlas
from robosteer_training.files import write_bytes

# The policy reads it: `robosteer_policy.steering.presets`.
SCHEMA = "robosteer.preset/1"


def write_preset(
    path: Path, atlas: Atlas, found: Sequence[Found], *, alpha: float, max_strength: float, recipe: str
) -> None:
    """Write a YAML file named after the preset.

    Args:
        path: `<name>.yaml`.
        atlas: of the checkpoint that it is for.
        found: the value vectors.
        alpha: the coefficient that they are given at full strength, activation units.
        max_strength: largest strength that may be asked for, in (0, 1].
        recipe: how they were found, for people.

    Raises:
        RobosteerError: nothing was found, or a name or number that no preset may have.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", path.stem) or path.suffix != ".yaml":
        raise RobosteerError(f"--preset {path}: found this name, expected lower-case letters, digits and _, then .yaml")
    if not found:
        raise RobosteerError("--preset: found no value vectors, expected at least one; try other words or more --depth")
    if not 0 < max_strength <= 1:
        raise RobosteerError(f"--max-strength: found {max_strength}, expected more than 0 and at most 1")
    targets: dict[int, list[int]] = {}
    for f in sorted(found, key=lambda f: (f.layer, f.index)):
        targets.setdefault(f.layer, []).append(f.index)
    preset = {
        "schema": SCHEMA,
        "name": path.stem,
        "site": "ffn",
        "stream": "prefix",
        "targets": targets,
        "checkpoint": atlas.meta["checkpoint"],
        "alpha": float(alpha),
        "beta": 0.0,
        "max_strength": float(max_strength),
        "description": recipe,
    }
    text = yaml.safe_dump(preset, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    write_bytes(path, text.encode())
