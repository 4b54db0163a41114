"""Batches of model inputs for the tiny model: padded prompts, one masked camera."""

import jax.numpy as jnp
import numpy as np
from tiny import tiny_config

from robosteer_model.config import FAST_CAMERAS, ModelConfig
from robosteer_model.observation import Observation

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb")
PROMPT = 9


def flow_config(**overrides):
    """pi0.5 with two cameras and short prompts, four tokens per image."""
    sizes = {"cameras": CAMERAS, "max_token_len": PROMPT, "action_horizon": 3, "action_dim": 4}
    return tiny_config(**(sizes | overrides))


def fast_config(**overrides):
    sizes = {"model_type": "pi0_fast", "action_expert": None, "cameras": FAST_CAMERAS[:2]}
    return flow_config(**(sizes | overrides))


def batch(config: ModelConfig, seed: int = 0) -> Observation:
    """Two rows: prompts of 5 and 7 tokens; in row 0 the last camera is masked (never for pi0-FAST)."""
    rng = np.random.default_rng(seed)
    size = (*config.siglip.image_resolution, 3)
    length = config.max_token_len
    valid = np.arange(length)[None] < np.array([[5], [7]])
    fast = config.model_type == "pi0_fast"
    causal = (np.arange(length)[None] >= np.array([[3], [4]])) & valid
    masks = {name: np.array([fast or name != config.cameras[-1], True]) for name in config.cameras}
    return Observation(
        images={name: jnp.asarray(rng.uniform(-1, 1, (2, *size)), jnp.float32) for name in config.cameras},
        image_masks={name: jnp.asarray(mask) for name, mask in masks.items()},
        state=jnp.asarray(rng.normal(size=(2, config.action_dim)), jnp.float32),
        tokenized_prompt=jnp.asarray(np.where(valid, rng.integers(3, config.vocab_size, valid.shape), 0), jnp.int32),
        tokenized_prompt_mask=jnp.asarray(valid),
        token_ar_mask=jnp.asarray(causal, jnp.int32) if fast else None,
        token_loss_mask=jnp.asarray(causal) if fast else None,
    )


def prefix_valid(config: ModelConfig, observation: Observation):
    """Bool (B, T): which prefix tokens are real."""
    masks = [np.asarray(observation.image_masks[name])[:, None] for name in config.cameras]
    images = [np.repeat(mask, config.siglip.num_tokens, axis=1) for mask in masks]
    return np.concatenate([*images, np.asarray(observation.tokenized_prompt_mask)], axis=1)


def chunk(config: ModelConfig, seed: int = 1):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(2, config.action_horizon, config.action_dim)), jnp.float32)
