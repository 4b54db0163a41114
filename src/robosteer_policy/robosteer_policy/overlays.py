"""What a person can see over the cameras' pictures: where chosen heads look, what activates a cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from robosteer_policy.steering.presets import Preset
from robosteer_rig.errors import RobosteerError

if TYPE_CHECKING:
    from robosteer_model.policy import Policy

# Kinds of overlays, as their topics are named.
ATTENTION, CLUSTER = "attention", "cluster"


class Overlay(Protocol):
    """Reads something about each patch of each picture."""

    def maps(self, observation: Mapping[str, Any], noise: np.ndarray | None, edits: Any) -> dict[str, np.ndarray]:
        """One inference whose actions are thrown away: a tapped program need not give the very bits of the plain one.

        Args:
            observation: openpi's flat keys.
            noise: as for the actions.
            edits: as for the actions.

        Returns:
            Field of an image -> (patch rows, patch columns), not negative.
        """
        ...


def parse_heads(text: str) -> tuple[tuple[int, int], ...]:
    """Heads from text such as "3.7 4.5" (layer.head); none from blank text.

    Raises:
        RobosteerError: for anything else.
    """
    words = text.split()
    if wrong := [word for word in words if not re.fullmatch(r"\d{1,3}\.\d{1,3}", word)]:
        raise RobosteerError(f"attention_heads: found {wrong[0]!r}, expected layer.head such as 3.7")
    return tuple((int(layer), int(head)) for layer, head in (word.split(".") for word in words))


class Attention:
    """Reads attention to the images beside a policy's actions.

    Args:
        policy: the model.
        heads: (layer, head) of the action expert, averaged.

    Raises:
        RobosteerError: for a model without an action expert, or a head that it lacks.
    """

    def __init__(self, policy: Policy, heads: Sequence[tuple[int, int]]) -> None:
        from robosteer_model.taps import Tap

        expert = policy.config.action_expert
        if expert is None:
            raise RobosteerError(
                "attention_heads: found pi0-FAST, expected a model with an action expert; leave it out"
            )
        if outside := [f"{a}.{b}" for a, b in heads if a >= expert.depth or b >= expert.num_heads]:
            last = f"{expert.depth - 1}.{expert.num_heads - 1}"
            raise RobosteerError(f"attention_heads: found {outside[0]}, expected heads from 0.0 to {last}")
        self._policy = policy
        self._layers = sorted({layer for layer, _ in heads})
        self._where = np.array([(self._layers.index(layer), head) for layer, head in heads]).T
        self._tap = Tap("suffix.attn.pattern", layers=tuple(self._layers), at="suffix.first", label="attention")

    def maps(self, observation: Mapping[str, Any], noise: np.ndarray | None, edits: Any) -> dict[str, np.ndarray]:
        """See `Overlay`: share of the attention of the first suffix token in the first flow step, mean over heads."""
        from robosteer_model.attention import patch_maps

        policy = self._policy
        pattern = policy.infer(observation, noise, taps=(self._tap,), edits=edits)["taps"]["attention"]
        # (steps, layers, B, heads, keys) -> (1, S, keys)
        chosen = pattern[0][self._where[0], 0, self._where[1]].astype(np.float32)[None]
        present = policy.transforms.inputs(observation)["image"]
        cameras = [camera for camera in policy.config.cameras if camera in present]
        maps = patch_maps(chosen, cameras, policy.config)
        return {field: np.asarray(maps[slot][0]).mean(0) for slot, field in _seen(policy).items()}


class Cluster:
    """Reads how strongly each image token activates the value vectors of a preset.

    The activation is the coefficient with which a value vector enters the residual stream (2509.00328); the picture
    shows its magnitude, mean over the cluster, as it is executed: under steering it contains the steering.

    Args:
        policy: the model.
        preset: names value vectors of the prefix, where the images are.

    Raises:
        RobosteerError: for a preset of heads or of the action expert, or a value vector that the model lacks.
    """

    def __init__(self, policy: Policy, preset: Preset) -> None:
        from robosteer_model.taps import Tap

        found = f"cluster_overlay: found preset {preset.name}"
        if (preset.site, preset.stream) != ("ffn", "prefix"):
            raise RobosteerError(
                f"{found} ({preset.site}, {preset.stream}), expected site ffn and stream prefix; images are seen there"
            )
        expert = policy.config.paligemma
        if outside := [f"{a}.{b}" for a, b in preset.pairs if a >= expert.depth or b >= expert.mlp_dim]:
            last = f"{expert.depth - 1}.{expert.mlp_dim - 1}"
            raise RobosteerError(f"{found} with {outside[0]}, expected value vectors from 0.0 to {last}")
        layers, units = (tuple(sorted(set(column))) for column in zip(*preset.pairs, strict=True))
        self._policy = policy
        self._where = [(layers.index(layer), units.index(unit)) for layer, unit in preset.pairs]
        self._taps = {
            slot: Tap("prefix.ffn.post", layers=layers, at=f"image[{slot}]", units=units, label=slot)
            for slot in _seen(policy)
        }

    def maps(self, observation: Mapping[str, Any], noise: np.ndarray | None, edits: Any) -> dict[str, np.ndarray]:
        """See `Overlay`: activation units."""
        policy = self._policy
        taps = policy.infer(observation, noise, taps=tuple(self._taps.values()), edits=edits)["taps"]
        size, patch = policy.config.siglip.image_resolution, policy.config.siglip.patch_size
        rows, columns = size[0] // patch[0], size[1] // patch[1]
        maps = {}
        for slot, field in _seen(policy).items():
            # (layers, B, patches, units)
            chosen = np.stack([taps[slot][layer, 0, :, unit] for layer, unit in self._where]).astype(np.float32)
            maps[field] = np.abs(chosen).mean(0).reshape(rows, columns)
        return maps


def _seen(policy: Policy) -> dict[str, str]:
    """Slot -> field of every image that a camera feeds."""
    fields = policy.transforms.layout.slot_fields(policy.config)
    return {slot: field for slot, field in fields.items() if field is not None}
