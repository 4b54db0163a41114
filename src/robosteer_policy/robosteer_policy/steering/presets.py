"""Presets: named edits of a model's activations with their limits, as files that a person can read."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import yaml

from robosteer_rig.errors import RobosteerError
from robosteer_rig.fields import FieldError, build, require

SCHEMA = "robosteer.preset/1"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAX_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Preset:
    """One direction in which a policy can be steered.

    At strength λ the coefficients a of the named value vectors become a + λ (alpha + beta a - a); the outputs z of the
    named heads become z + λ (beta z - z).

    Attributes:
        schema: version of this file format.
        name: lower-case letters, digits and _.
        site: ffn (value vectors) or heads.
        stream: prefix (PaliGemma) or suffix (action expert).
        targets: layer -> indices of value vectors or heads.
        checkpoint: digest of the parameters that it was made for (`robosteer_model.digest.params_digest`, as head
            selections and reports name it); empty when that is not known.
        alpha: activation units; ffn only.
        beta: factor on the activation itself; 0 overrides it.
        scope: tokens by meaning, as taps name them.
        max_strength: largest λ that may be asked for.
        max_rate: fastest change of λ, 1/s.
        description: for people.
    """

    schema: str
    name: str
    site: Literal["ffn", "heads"]
    stream: Literal["prefix", "suffix"]
    targets: dict[str, tuple[int, ...]]
    checkpoint: str = ""
    alpha: float = 0.0
    beta: float = 0.0
    scope: str = "all"
    max_strength: float = 1.0
    max_rate: float = 2.0
    description: str = ""

    def __post_init__(self) -> None:
        require(self.schema == SCHEMA, "schema", self.schema, SCHEMA)
        require(_NAME.fullmatch(self.name) is not None, "name", self.name, "lower-case letters, digits and _")
        require(bool(self.pairs), "targets", self.targets, "at least one layer with an index")
        good = not self.checkpoint or _DIGEST.fullmatch(self.checkpoint) is not None
        require(good, "checkpoint", self.checkpoint, "64 hexadecimal digits, the digest of a checkpoint's parameters")
        require(0 < self.max_strength <= 1, "max_strength", self.max_strength, "more than 0 and at most 1")
        require(self.max_rate > 0, "max_rate", self.max_rate, "more than 0")
        require(self.site == "ffn" or self.alpha == 0, "alpha", self.alpha, "0 for heads")

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """All (layer, index)."""
        try:
            return tuple((int(layer), index) for layer, indices in sorted(self.targets.items()) for index in indices)
        except ValueError:
            raise FieldError("targets", f"found layers {list(self.targets)}, expected whole numbers") from None

    @property
    def touched(self) -> frozenset[tuple[str, str, int, int]]:
        """What it changes, comparable between presets."""
        return frozenset((self.stream, self.site, layer, index) for layer, index in self.pairs)


def parse_preset(text: str, source: str) -> Preset:
    """Read one preset from YAML (or JSON) text.

    Raises:
        RobosteerError: "<source>: <field>: found X, expected Y".
    """
    try:
        data = yaml.safe_load(text)
        if isinstance(data, dict) and isinstance(data.get("targets"), dict):
            data["targets"] = {str(layer): indices for layer, indices in data["targets"].items()}
        return build(Preset, data)
    except FieldError as error:
        raise RobosteerError(f"{source}: {error}") from None
    except yaml.YAMLError:
        raise RobosteerError(f"{source}: found text that is not YAML, expected a preset") from None


def load_presets(directory: str | Path) -> dict[str, Preset]:
    """All presets of a directory, by name, from its *.yaml files.

    Raises:
        RobosteerError: for a directory without presets, a wrong file, or a name that occurs twice.
    """
    found: dict[str, Preset] = {}
    for path in sorted(Path(directory).glob("*.yaml")):
        if path.stat().st_size > _MAX_BYTES:
            raise RobosteerError(f"preset {path}: found more than {_MAX_BYTES} bytes, expected a preset")
        preset = parse_preset(path.read_text(encoding="utf-8"), f"preset {path}")
        if preset.name in found:
            raise RobosteerError(f"preset {path}: found the name {preset.name} twice, expected it once")
        found[preset.name] = preset
    if not found:
        raise RobosteerError(f"preset_dir {directory}: found no *.yaml, expected presets; check the path")
    return found


def conflicts(preset: Preset, active: Mapping[str, Preset]) -> str:
    """Name an active preset that wants something else with the same value vector or head, or an empty string."""
    for name, other in active.items():
        shared = preset.touched & other.touched
        same = (preset.alpha, preset.beta) == (other.alpha, other.beta)
        if name != preset.name and shared and not same:
            stream, site, layer, index = min(shared)
            return f"{preset.name} and {name} both change {stream} {site} ({layer}, {index})"
    return ""
