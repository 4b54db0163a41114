"""Shapes that hold no information are not computed: absent cameras, and the padding of prompts.

Exact up to rounding: masked tokens advance no position and get no attention. Prompt lengths are rounded up to a
multiple, so that a handful of compiled programs serves every prompt.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_model.config import ModelConfig
from robosteer_model.observation import Observation

PROMPT_MULTIPLE = 16


def bucket(length: int, longest: int, multiple: int = PROMPT_MULTIPLE) -> int:
    """`length` rounded up to a multiple, at least one multiple and at most `longest`."""
    return min(max(-(-length // multiple), 1) * multiple, longest)


def prune(observation: Observation, config: ModelConfig, *, multiple: int = PROMPT_MULTIPLE) -> Observation:
    """Drop what is masked in every row of a batch. Masks must be concrete (call it outside of `jit`).

    Cameras stay for pi0-FAST, whose training positions count masked tokens too.

    Args:
        observation: batch of inputs.
        config: the model.
        multiple: granularity of prompt lengths.
    """
    prompt_mask = np.asarray(observation.tokenized_prompt_mask)
    used = np.flatnonzero(prompt_mask.any(axis=0))
    length = bucket(int(used[-1]) + 1 if used.size else 1, prompt_mask.shape[1], multiple)
    kept = [
        name
        for name in observation.images
        if config.model_type == "pi0_fast" or bool(np.any(np.asarray(observation.image_masks[name])))
    ]
    return dataclasses.replace(
        observation,
        images={name: observation.images[name] for name in kept},
        image_masks={name: observation.image_masks[name] for name in kept},
        **{name: value[:, :length] for name, value in _token_fields(observation).items()},
    )


def restore(observation: Observation, config: ModelConfig) -> Observation:
    """Openpi's shapes: every camera of the config, prompts of `max_token_len`. For bitwise comparison with openpi.

    A missing camera becomes openpi's black image, masked (pi0-FAST: unmasked).
    """
    batch = observation.batch_size
    black = jnp.full((batch, *config.siglip.image_resolution, 3), -1.0, jnp.float32)
    present = jnp.full(batch, config.model_type == "pi0_fast")
    missing = config.max_token_len - observation.tokenized_prompt.shape[1]
    padded = {
        name: jnp.pad(jnp.asarray(value), ((0, 0), (0, max(missing, 0))))
        for name, value in _token_fields(observation).items()
    }
    return dataclasses.replace(
        observation,
        images={name: observation.images.get(name, black) for name in config.cameras},
        image_masks={name: observation.image_masks.get(name, present) for name in config.cameras},
        **padded,
    )


def _token_fields(observation: Observation) -> dict[str, Any]:
    """The arrays (B, L) that are as long as the prompt."""
    names = ("tokenized_prompt", "tokenized_prompt_mask", "token_ar_mask", "token_loss_mask")
    fields: dict[str, jax.Array | None] = {name: getattr(observation, name) for name in names}
    return {name: value for name, value in fields.items() if value is not None}
