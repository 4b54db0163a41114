"""Presets as one set of edits of the model: compiled once, whatever the strengths. Needs JAX."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from robosteer_model.config import ModelConfig
from robosteer_model.edits import Edit, Edits, ffn_edit, head_edit, without_effect
from robosteer_policy.steering.presets import Preset
from robosteer_rig.errors import RobosteerError


def _edit(preset: Preset, config: ModelConfig) -> Edit:
    if preset.site == "heads":
        return head_edit(config, preset.stream, preset.pairs, scale=preset.beta, strength=0.0, scope=preset.scope)
    neurons: dict[int, list[int]] = {}
    for layer, index in preset.pairs:
        neurons.setdefault(layer, []).append(index)
    return ffn_edit(
        config, preset.stream, neurons, alpha=preset.alpha, beta=preset.beta, strength=0.0, scope=preset.scope
    )


class Composition:
    """All presets of a node.

    Args:
        presets: by name.
        config: of the model that they shall act on.

    Attributes:
        warnings: what of them cannot have an effect, in words.

    Raises:
        RobosteerError: for a preset that is outside of the model.
    """

    def __init__(self, presets: Mapping[str, Preset], config: ModelConfig) -> None:
        self._edits: dict[str, Edit] = {}
        self._streams = {name: preset.stream for name, preset in presets.items()}
        for name, preset in sorted(presets.items()):
            try:
                self._edits[name] = _edit(preset, config)
            except Exception as error:
                if not getattr(error, "user_error", False):
                    raise
                raise RobosteerError(f"preset {name} does not fit the checkpoint: {error}") from None
        self.warnings = without_effect(self.with_strengths({}), config)

    def with_strengths(self, strengths: Mapping[str, float]) -> Edits:
        """The edits with these λ; presets that are not named get 0."""
        streams: dict[str, list[Edit]] = {"prefix": [], "suffix": []}
        for name, edit in self._edits.items():
            strength = np.asarray(strengths.get(name, 0.0), np.float32)
            streams[self._streams[name]].append(dataclasses.replace(edit, strength=strength))
        return Edits(prefix=tuple(streams["prefix"]), suffix=tuple(streams["suffix"]))
