"""Random weights and inputs of full-size models."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from robosteer_model.config import ModelConfig
from robosteer_model.params import flatten, param_shapes, unflatten

# Random numbers are repeated in blocks of this many.
BLOCK = 1 << 20


def random_params(config: ModelConfig, dtype: Any = ml_dtypes.bfloat16) -> dict[str, Any]:
    """Weights on the host, openpi's tree, at a weight's usual scale: smaller ones give all frames one activation."""
    block = np.random.default_rng(0).standard_normal(BLOCK, np.float32)

    def values(shape: tuple[int, ...]) -> np.ndarray:
        scale = shape[-2] ** -0.5 if len(shape) > 1 else 0.05
        return np.resize((scale * block).astype(dtype), shape)

    return unflatten({path: values(leaf.shape) for path, leaf in flatten(param_shapes(config)).items()})


def random_observation(config: ModelConfig, rng: np.random.Generator, views: int, used: int, length: int) -> Any:
    """One row of inputs in openpi's keys.

    Args:
        config: the model.
        rng: of images, state and prompt.
        views: cameras that are there; further ones up to those in the config are black and masked when `length` is
            the config's longest prompt, as openpi feeds them, and left out otherwise.
        used: prompt tokens.
        length: of the prompt with its padding.
    """
    shape = (1, *config.siglip.image_resolution, 3)
    there = config.cameras[:views]
    fed = config.cameras if length == config.max_token_len else there
    prompt = np.zeros((1, length), np.int32)
    prompt[:, :used] = rng.integers(3, min(1000, config.vocab_size), used)
    return {
        "image": {
            name: rng.uniform(-1, 1, shape).astype(np.float32) if name in there else np.full(shape, -1, np.float32)
            for name in fed
        },
        "image_mask": {name: np.array([name in there]) for name in fed},
        "state": rng.uniform(-1, 1, (1, config.action_dim)).astype(np.float32),
        "tokenized_prompt": prompt,
        "tokenized_prompt_mask": np.arange(length)[None] < used,
    }
