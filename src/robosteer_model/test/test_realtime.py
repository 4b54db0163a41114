"""Real-time chunking in the model.

Regressions pinned: the correction had the sign of tau instead of t and drove the new chunk away from the old; a trained
guide changed the flow time of free actions too; another delay compiled the model again in the middle of a motion.
"""

import dataclasses

import jax
import numpy as np
import pytest
from tiny import random_params
from tiny_batch import batch, chunk, flow_config

from robosteer_model import pi0
from robosteer_model.realtime import Guide, held_times

STEPS = 4
TRACES: list[bool] = []


class Model:
    """A tiny flow model, compiled once per kind of guide."""

    def __init__(self, kind):
        self.config = flow_config(model_type=kind)
        inputs = random_params(self.config), batch(self.config), chunk(self.config)

        @jax.jit
        def compiled(guide):
            TRACES.append(True)
            params, observation, noise = inputs
            return pi0.sample_actions(params, self.config, observation, noise, num_steps=STEPS, guide=guide)[0]

        self.sample = lambda guide: np.asarray(compiled(guide))


@pytest.fixture(scope="module", params=["pi0", "pi05"])
def model(request):
    return Model(request.param)


def weights(config, delay, end):
    """1 for the frozen actions, falling over the overlap."""
    k = np.arange(config.action_horizon)
    return np.where(k < delay, 1.0, np.clip((end - k) / (end - delay + 1), 0, 1)).astype(np.float32)


def test_guidance_pulls_the_overlap_towards_the_old_chunk_and_little_else(model):
    config = model.config
    plain = model.sample(None)
    old = plain[0] + 0.3
    guide = Guide(old, weights(config, 2, config.action_horizon - 1))
    new = model.sample(guide)
    before, after = (np.abs(x[:, :2] - old[None, :2]).mean() for x in (plain, new))
    assert after < 0.4 * before
    TRACES.clear()
    free = Guide(old, np.zeros(config.action_horizon, np.float32))
    np.testing.assert_allclose(model.sample(free), plain, atol=1e-5)
    assert not TRACES, "another delay compiles nothing"


def test_a_trained_model_gets_the_given_actions_exactly_and_only_them(model):
    config = model.config
    old = model.sample(None)[0] + 0.3
    guide = Guide(old, weights(config, 2, 2), trained=True)
    new = model.sample(guide)
    np.testing.assert_array_equal(new[:, :2], np.broadcast_to(old[:2], new[:, :2].shape))
    times = np.asarray(held_times(guide, np.full(2, 0.7, np.float32)))
    assert (times[:, :2] == 0).all()
    np.testing.assert_allclose(times[:, 2:], 0.7)
    none_given = dataclasses.replace(guide, weights=np.zeros(config.action_horizon, np.float32))
    np.testing.assert_allclose(model.sample(none_given), model.sample(None), atol=1e-5)
