"""The policy.

Pins: openpi's random numbers (key(0), split on every call, also when noise is given); given noise decides the chunk;
leaving out absent cameras and prompt padding changes nothing but rounding; edits reach the model and λ = 0 is exact.
"""

import jax
import numpy as np
import pytest
from tiny import droid_observation, tiny_checkpoint

from robosteer_model.config import FAST_CAMERAS
from robosteer_model.edits import Edits, FfnEdit
from robosteer_model.errors import ModelError
from robosteer_model.norm_stats import unnormalize
from robosteer_model.policy import Policy, prompt_bucket
from robosteer_model.transforms import Transforms


@pytest.fixture(scope="module")
def checkpoint():
    return tiny_checkpoint()


@pytest.fixture(scope="module")
def shared(checkpoint):
    policy = Policy(checkpoint, num_steps=2)
    policy.warm_up("pick up the red cube")
    return policy


@pytest.fixture
def policy(shared):
    """The compiled policy, with its key as new."""
    shared._key = jax.random.key(0)
    return shared


def test_openpis_random_numbers(policy):
    raw = droid_observation()
    key, first_key = jax.random.split(jax.random.key(0))
    _, second_key = jax.random.split(key)
    shape = (1, 5, 10)
    drawn = [policy.infer(raw)["actions"] for _ in range(2)]
    for key, actions in zip((first_key, second_key), drawn, strict=True):
        noise = np.asarray(jax.random.normal(key, shape))
        np.testing.assert_allclose(policy.infer(raw, noise)["actions"], actions, rtol=1e-5, atol=1e-5)


def test_given_noise_also_advances_the_key(policy):
    raw = droid_observation()
    policy.infer(raw, np.zeros((5, 10)))
    second = policy.infer(raw)["actions"]
    policy._key = jax.random.key(0)
    policy.infer(raw)
    np.testing.assert_array_equal(policy.infer(raw)["actions"], second)


def test_output_is_float64_in_the_robots_units(policy):
    result = policy.infer(droid_observation())
    assert result["actions"].shape == (5, 8)
    assert result["actions"].dtype == np.float64
    assert result["policy_timing"]["infer_ms"] > 0


def test_warm_up_uses_up_no_randomness(policy):
    first = policy.infer(droid_observation())["actions"]
    policy._key = jax.random.key(0)
    policy.warm_up()
    np.testing.assert_array_equal(policy.infer(droid_observation())["actions"], first)


def test_pruned_shapes_give_the_same_actions(checkpoint, policy):
    stats, config = checkpoint.norm_stats, checkpoint.config
    transforms = Transforms(config, stats, checkpoint.tokenizer, keep_absent=True)
    full = Policy(checkpoint, num_steps=2, transforms=transforms, full_prompt=True)
    noise = np.random.default_rng(0).standard_normal((5, 10))
    for prompt in ("go", "pick up the red cube"):
        raw = droid_observation() | {"prompt": prompt}
        pruned, whole = policy.infer(raw, noise)["actions"], full.infer(raw, noise)["actions"]
        np.testing.assert_allclose(pruned, whole, rtol=1e-4, atol=1e-4)


def test_edits_change_actions_and_strength_zero_does_not(policy):
    raw, noise = droid_observation(), np.zeros((5, 10))
    ones, zeros = np.ones((2, 16), np.float32), np.zeros((2, 16), np.float32)
    plain = policy.infer(raw, noise)["actions"]
    found = {}
    for strength in (0.0, 1.0):
        edit = FfnEdit(ones, 3 * ones, zeros, strength=np.float32(strength))
        found[strength] = policy.infer(raw, noise, edits=Edits(prefix=(edit,)))["actions"]
    np.testing.assert_allclose(found[0.0], plain, rtol=1e-5, atol=1e-5)
    assert np.abs(found[1.0] - plain).max() > 1e-3


class FixedChunk:
    """Stands for FAST: every text means the same chunk."""

    def encode(self, actions):
        return [0]

    def decode(self, tokens, horizon, action_dim):
        return np.full((horizon, action_dim), 0.5, np.float32)


def test_fast_needs_its_action_tokenizer_and_decodes_with_it():
    checkpoint = tiny_checkpoint(model_type="pi0_fast", action_expert=None, cameras=FAST_CAMERAS, action_dim=8)
    with pytest.raises(ModelError, match="no FAST action tokenizer"):
        Policy(checkpoint)
    transforms = Transforms.of(checkpoint, action_tokens=FixedChunk())
    actions = Policy(checkpoint, transforms=transforms).infer(droid_observation())["actions"]
    # Random weights say no "Action: ", which openpi reads as a chunk of zeros.
    middle = unnormalize(np.zeros((5, 8)), checkpoint.norm_stats["actions"], quantile=True)
    np.testing.assert_allclose(actions, middle)
    said = transforms.fast_tokenizer.model.encode("Action: x|")
    half = unnormalize(np.full((5, 8), 0.5), checkpoint.norm_stats["actions"], quantile=True)
    np.testing.assert_allclose(transforms.outputs(np.array(said, np.float32)), half)


@pytest.mark.parametrize("shape", [(5, 9), (4, 10), (2, 5, 10)])
def test_noise_of_another_shape_is_refused(policy, shape):
    with pytest.raises(ModelError, match="noise: found shape"):
        policy.infer(droid_observation(), np.zeros(shape))


def test_policy_loads_from_disk(saved):
    policy = Policy.load(saved, num_steps=1, default_prompt="go")
    raw = droid_observation()
    del raw["prompt"]
    assert policy.infer(raw)["actions"].shape == (5, 8)
    assert policy.metadata["model_type"] == "pi05"


@pytest.mark.parametrize(("tokens", "expected"), [(0, 50), (1, 50), (50, 50), (51, 100), (199, 200), (200, 200)])
def test_prompt_buckets(tokens, expected):
    assert prompt_bucket(tokens, 200) == expected


def test_prompt_buckets_never_exceed_the_model():
    assert [prompt_bucket(n, 30) for n in (8, 9, 25, 30)] == [8, 16, 30, 30]
