"""A tiny pi0.5 and tiny data, shared by the tests of this package."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from robosteer_model.checkpoint import Checkpoint
from robosteer_model.config import FAST_CAMERAS, ModelConfig
from robosteer_model.norm_stats import NormStats
from robosteer_training.convert import convert_bags
from robosteer_training.frames import Frames

from .synthetic_bag import Script, bench_rig, write_episode
from .tiny_model import make_frames, random_params, tiny_config

GOLDEN = Path(__file__).parents[2] / "robosteer_model" / "test" / "golden"
TASKS = ("pick up red cube", "push the button")


@pytest.fixture(scope="session")
def config() -> ModelConfig:
    return tiny_config()


@pytest.fixture(scope="session")
def params(config):
    return random_params(config)


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
