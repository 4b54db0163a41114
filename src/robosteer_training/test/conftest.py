"""A tiny pi0.5 and tiny data, shared by the tests of this package."""

import dataclasses
import json
import os
from pathlib import Path

# Tiny programs run once: compiling them is the cost of these tests, and this makes it a third.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
import numpy as np
import pytest

from robosteer_model.checkpoint import Checkpoint
from robosteer_model.config import FAST_CAMERAS, GemmaConfig, ModelConfig, SiglipConfig
from robosteer_model.norm_stats import NormStats
from robosteer_model.params import flatten, param_shapes, unflatten
from robosteer_training.convert import convert_bags
from robosteer_training.frames import Frames

from .synthetic_bag import Script, bench_rig, write_episode

GOLDEN = Path(__file__).parents[2] / "robosteer_model" / "test" / "golden"
EPISODES, LENGTH = 5, 14
TASKS = ("pick up red cube", "push the button")


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


@pytest.fixture(scope="session")
def make_config():
    return tiny_config


@pytest.fixture(scope="session")
def make_params():
    return random_params


@pytest.fixture(scope="session")
def config() -> ModelConfig:
    return tiny_config()


@pytest.fixture(scope="session")
def params(config):
    return random_params(config)


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


@pytest.fixture(scope="session")
def frames(config) -> Frames:
    return make_frames(config)


@pytest.fixture(scope="session")
def base(config, params) -> Checkpoint:
    stats = NormStats(np.zeros(8), np.ones(8), -np.ones(8), np.ones(8))
    tokenizer = (GOLDEN / "shared_tokenizer.model").read_bytes()
    return Checkpoint(params, config, {"state": stats, "actions": stats}, "droid", tokenizer)


@pytest.fixture(scope="session")
def two_tasks(tmp_path_factory):
    """A dataset of two tasks with three episodes each, told apart by their pictures and motions."""
    place = tmp_path_factory.mktemp("two_tasks")
    for i in range(6):
        task = i // 3
        script = Script(velocity=(-0.5, 0.6)[task] + 0.1 * (i % 3), seed=60 * task + 5 * (i % 3))
        episode = write_episode(place / "bags" / f"episode_{i}", bench_rig(), script)
        told = json.loads((episode / "episode.json").read_text())
        (episode / "episode.json").write_text(json.dumps(told | {"instruction": TASKS[task]}))
    return convert_bags(place / "bags", place / "dataset")


@pytest.fixture(scope="session")
def fast_base(base) -> Checkpoint:
    config = tiny_config(
        model_type="pi0_fast", action_expert=None, cameras=FAST_CAMERAS, action_dim=8, max_token_len=160
    )
    return dataclasses.replace(base, params=random_params(config, 5), config=config)


class CoarseTokens:
    """An action tokenizer for tests: every number of a chunk becomes one of 16 tokens."""

    def encode(self, actions):
        return np.clip(np.asarray(actions).ravel() * 8 + 8, 0, 15).astype(int).tolist()

    def decode(self, tokens, horizon, action_dim):
        return (np.resize(np.array(tokens), (horizon, action_dim)) - 8) / 8


def read_json(path: Path):
    return json.loads(path.read_text())
