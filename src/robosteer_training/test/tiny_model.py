"""A tiny pi0.5 with random weights, and frames for it; imported by tests and by the processes that they start."""

import jax
import numpy as np

from robosteer_model.config import GemmaConfig, ModelConfig, SiglipConfig
from robosteer_model.params import flatten, param_shapes, unflatten
from robosteer_training.frames import Frames

EPISODES, LENGTH = 5, 14


def tiny_config(**changes) -> ModelConfig:
    values = {
        "model_type": "pi05",
        "paligemma": GemmaConfig(width=32, depth=3, mlp_dim=48, num_heads=4, head_dim=8),
        "action_expert": GemmaConfig(width=24, depth=3, mlp_dim=40, num_heads=4, head_dim=8),
        "siglip": SiglipConfig(
            width=16, depth=1, mlp_dim=24, num_heads=2, patch_size=(14, 14), image_resolution=(28, 28)
        ),
        "vocab_size": 512,
        "action_dim": 10,
        "action_horizon": 4,
        "max_token_len": 72,
        "dtype": "float32",
        "discrete_state_input": True,
    }
    return ModelConfig(**(values | changes))


def random_params(config: ModelConfig, seed: int = 0):
    """Random values in every leaf (openpi's own start has zero gates and blind vision), at a weight's usual scale."""
    rng = np.random.default_rng(seed)
    flat = {}
    for path, leaf in flatten(param_shapes(config)).items():
        scale = leaf.shape[-2] ** -0.5 if leaf.ndim > 1 and "scale" not in path and "bias" not in path else 0.05
        flat[path] = jax.numpy.asarray(scale * rng.normal(size=leaf.shape), jax.numpy.float32)
    return unflatten(flat)


def make_frames(config: ModelConfig) -> Frames:
    """Frames whose actions are a function of the first image's brightness."""
    rng = np.random.default_rng(3)
    total = EPISODES * LENGTH
    shade = rng.uniform(0, 255, total)
    images = np.clip(shade[:, None, None, None] + rng.normal(0, 20, (total, 28, 28, 3)), 0, 255).astype(np.uint8)
    actions = np.zeros((total, config.action_dim), np.float32)
    actions[:, :8] = np.sin(shade[:, None] / 80 + np.arange(8))
    return Frames(
        images={"base_0_rgb": images, "left_wrist_0_rgb": rng.integers(0, 255, images.shape).astype(np.uint8)},
        tokens=rng.integers(3, 512, (total, config.max_token_len)).astype(np.int32),
        tokens_mask=np.tile(np.arange(config.max_token_len) < 9, (total, 1)),
        state=np.zeros((total, config.action_dim), np.float32),
        actions=actions,
        episode_index=np.repeat(np.arange(EPISODES), LENGTH),
        usable=np.ones(total, bool),
        action_dim=8,
        horizon=config.action_horizon,
    )
