"""What the model sees: images in [-1, 1], state, prompt tokens, and their masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from robosteer_model.config import ModelConfig
from robosteer_model.errors import ModelError


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Observation:
    """A batch of model inputs (B batch, L prompt tokens, A action_dim).

    A camera that is absent from `images` is not computed at all; one that is present with a False mask is computed
    and ignored, as openpi does.

    Attributes:
        images: camera -> float32 (B, h, w, 3) in [-1, 1], or the encoder's own tokens (B, S, W0).
        image_masks: camera -> bool (B,), whether the camera is real.
        state: float32 (B, A), normalised.
        tokenized_prompt: int32 (B, L).
        tokenized_prompt_mask: bool (B, L).
        token_ar_mask: int32 (B, L), 1 where attention is causal (pi0-FAST).
        token_loss_mask: bool (B, L), True where the token is predicted (pi0-FAST).
    """

    images: dict[str, jax.Array]
    image_masks: dict[str, jax.Array]
    state: jax.Array
    tokenized_prompt: jax.Array
    tokenized_prompt_mask: jax.Array
    token_ar_mask: jax.Array | None = None
    token_loss_mask: jax.Array | None = None

    @property
    def batch_size(self) -> int:
        """B."""
        return self.state.shape[0]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Observation:
        """Build from openpi's keys `image`, `image_mask`, `state`, `tokenized_prompt`...; uint8 images are scaled.

        Missing image masks are True.

        Raises:
            ModelError: for a missing key.
        """
        required = ("image", "state", "tokenized_prompt", "tokenized_prompt_mask")
        if missing := [name for name in required if name not in data]:
            raise ModelError(f"observation: found {sorted(data)}, expected also {missing}")
        state = jnp.asarray(data["state"])
        masks = data.get("image_mask", {})
        present = jnp.ones(state.shape[:1], bool)
        return cls(
            images={name: image_to_float(image) for name, image in data["image"].items()},
            image_masks={name: jnp.asarray(masks.get(name, present)) for name in data["image"]},
            state=state,
            tokenized_prompt=jnp.asarray(data["tokenized_prompt"]),
            tokenized_prompt_mask=jnp.asarray(data["tokenized_prompt_mask"]),
            token_ar_mask=_optional(data.get("token_ar_mask")),
            token_loss_mask=_optional(data.get("token_loss_mask")),
        )


def _optional(value: Any) -> jax.Array | None:
    return None if value is None else jnp.asarray(value)


def image_to_float(image: Any) -> jax.Array:
    """Uint8 0..255 to float32 [-1, 1]; float images pass unchanged."""
    array = jnp.asarray(image)
    return array.astype(jnp.float32) / 255.0 * 2.0 - 1.0 if array.dtype == jnp.uint8 else array


def present_cameras(config: ModelConfig, observation: Observation) -> tuple[str, ...]:
    """The cameras that are computed, in the model's token order.

    Raises:
        ModelError: when the observation names a camera that the model does not have, or none that it has.
    """
    if unknown := sorted(set(observation.images) - set(config.cameras)):
        raise ModelError(f"observation.images: found {unknown}, expected some of {list(config.cameras)}")
    cameras = tuple(name for name in config.cameras if name in observation.images)
    if not cameras:
        raise ModelError(f"observation.images: found none, expected at least one of {list(config.cameras)}")
    for name in cameras:
        found = observation.images[name].shape[1:]
        encoded = (config.siglip.num_tokens, config.paligemma.width)
        if found not in ((*config.siglip.image_resolution, 3), encoded):
            expected = (*config.siglip.image_resolution, 3)
            raise ModelError(f"observation.images[{name!r}]: found shape {found}, expected {expected}; resize it first")
    return cameras
