"""Where chosen heads of the action expert look while the policy acts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from robosteer_rig.errors import RobosteerError

if TYPE_CHECKING:
    from robosteer_model.policy import Policy


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
        """One inference whose actions are thrown away: a tapped program need not give the very bits of the plain one.

        Args:
            observation: openpi's flat keys.
            noise: as for the actions.
            edits: as for the actions.

        Returns:
            Field of an image -> (patch rows, patch columns): share of the attention of the first suffix token in the
            first flow step, mean over the heads.
        """
        from robosteer_model.attention import patch_maps

        policy = self._policy
        pattern = policy.infer(observation, noise, taps=(self._tap,), edits=edits)["taps"]["attention"]
        # (steps, layers, B, heads, keys) -> (1, S, keys)
        chosen = pattern[0][self._where[0], 0, self._where[1]].astype(np.float32)[None]
        present = policy.transforms.inputs(observation)["image"]
        cameras = [camera for camera in policy.config.cameras if camera in present]
        fields = policy.transforms.layout.slot_fields(policy.config)
        maps = patch_maps(chosen, cameras, policy.config)
        return {field: np.asarray(maps[c][0]).mean(0) for c in cameras if (field := fields[c]) is not None}
