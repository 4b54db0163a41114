"""Pins edits: what they compute, where they act, that strength 0 is bitwise nothing and arrays never recompile.

Regressions: an override that is a gain; an edit that leaks to other tokens, heads, steps or streams; a prefix edit that
is lost in the cache; a recompilation on a robot whenever a slider moves.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import random_params
from tiny_batch import batch, chunk, flow_config

from robosteer_model import pi0
from robosteer_model.edits import Edits, ffn_edit, head_edit, without_effect
from robosteer_model.errors import ModelError
from robosteer_model.taps import Tap

TIME = jnp.asarray([0.3, 0.9])
TAPS = (
    Tap("prefix.ffn.post", at="all"),
    Tap("suffix.ffn.post", at="all"),
    Tap("prefix.attn.z", at="all"),
    Tap("suffix.attn.z", at="all"),
)
CONFIG = flow_config()
TRACES: list[str] = []


@jax.jit
def observed(params, observation, x_t, edits):
    TRACES.append("velocity")
    return pi0.velocity(params, CONFIG, observation, x_t, TIME, taps=TAPS, edits=edits)


@jax.jit
def sampled(params, observation, noise, edits):
    TRACES.append("sample")
    return pi0.sample_actions(params, CONFIG, observation, noise, num_steps=2, edits=edits)[0]


@pytest.fixture(scope="module")
def inputs():
    return random_params(CONFIG), batch(CONFIG), chunk(CONFIG)


@pytest.fixture(scope="module")
def plain(inputs):
    return observed(*inputs, None)


@pytest.fixture(scope="module")
def plain_sample(inputs):
    return sampled(*inputs, None)


def both(**changes):
    """One FFN edit and one head edit with noise on each stream; the same static structure in every test."""
    ffn = {"alpha": 2.5, "beta": 0.5, "strength": 0.5} | {k: v for k, v in changes.items() if k != "scale"}
    heads = {"scale": 0.25, "noise": 0.1, "strength": 0.5} | {
        k: v for k, v in changes.items() if k not in ("alpha", "beta")
    }
    return Edits(
        prefix=(ffn_edit(CONFIG, "prefix", {0: [3]}, **ffn), head_edit(CONFIG, "prefix", [(0, 1)], **heads)),
        suffix=(ffn_edit(CONFIG, "suffix", {1: [2, 5]}, **ffn), head_edit(CONFIG, "suffix", [(1, 0)], **heads)),
    )


def test_strength_zero_keeps_every_bit_and_no_value_recompiles(inputs, plain, plain_sample):
    TRACES.clear()
    velocity, taps = observed(*inputs, both(strength=0.0))
    np.testing.assert_array_equal(velocity, plain[0])
    for name, value in taps.items():
        np.testing.assert_array_equal(value, plain[1][name])
    np.testing.assert_array_equal(sampled(*inputs, both(strength=0.0)), plain_sample)
    for changes in ({"alpha": 9.0}, {"strength": 1.0}, {"scale": 0.0}, {"steps": (0, 1)}, {"beta": 1.0}):
        edited, _ = observed(*inputs, both(**changes))
        assert not np.array_equal(edited, plain[0])
        assert not np.array_equal(sampled(*inputs, both(**changes)), plain_sample)
    assert sorted(TRACES) == ["sample", "velocity"]


def test_blend_is_the_stated_formula_and_touches_nothing_else(inputs, plain):
    _, taps = observed(*inputs, both())
    z, edited_z = plain[1]["prefix.attn.z"][0], taps["prefix.attn.z"][0]
    np.testing.assert_array_equal(edited_z[..., 0, :], z[..., 0, :])
    # Strength 0.5 towards a quarter: z + 0.5 (0.25 z - z), with half of a deviation of 0.1.
    noise = np.asarray(edited_z[..., 1, :] - 0.625 * z[..., 1, :])
    assert np.std(noise) == pytest.approx(0.05, rel=0.3)
    assert abs(np.mean(noise)) < 0.02
    only_ffn = Edits(prefix=both().prefix[:1])
    after, before = observed(*inputs, only_ffn)[1]["prefix.ffn.post"][0], plain[1]["prefix.ffn.post"][0]
    a = before[..., 3]
    np.testing.assert_allclose(after[..., 3], a + 0.5 * (2.5 + 0.5 * a - a), rtol=1e-5)
    np.testing.assert_array_equal(np.delete(after, 3, axis=-1), np.delete(before, 3, axis=-1))


@pytest.fixture(scope="module")
def single(inputs):
    """Each edit alone, by name, with every activation."""
    mean = np.random.default_rng(0).normal(size=(2, 2, 4)).astype(np.float32)
    edits = {
        "override": Edits(suffix=(ffn_edit(CONFIG, "suffix", {0: [2]}, alpha=3.0, scope="action[1]"),)),
        "silence": Edits(suffix=(head_edit(CONFIG, "suffix", [(0, 1)]),)),
        "mean": Edits(prefix=(head_edit(CONFIG, "prefix", [(0, 1)], mean=mean, scope="text"),)),
        "last": Edits(prefix=(ffn_edit(CONFIG, "prefix", {1: [0, 1]}, alpha=50.0),)),
    }
    return mean, {name: observed(*inputs, edit) for name, edit in edits.items()}, edits


def test_full_override_sets_one_coefficient_of_one_token_exactly(inputs, plain, single):
    before, after = plain[1]["suffix.ffn.post"][0], single[1]["override"][1]["suffix.ffn.post"][0]
    expected = np.array(before)
    expected[:, 1, 2] = 3.0
    np.testing.assert_array_equal(after, expected)
    # Padding rows see every key, the suffix's too, so only valid prefix tokens must keep their bits.
    valid = np.asarray(pi0.embed_prefix(inputs[0], CONFIG, inputs[1]).valid)
    untouched, found = plain[1]["prefix.ffn.post"], single[1]["override"][1]["prefix.ffn.post"]
    np.testing.assert_array_equal(np.asarray(untouched)[:, valid], np.asarray(found)[:, valid])


def test_heads_are_silenced_or_replaced_by_their_mean_within_the_scope(plain, single):
    mean, found, _ = single
    silenced = found["silence"][1]["suffix.attn.z"][0]
    assert not np.any(silenced[:, :, 1])
    np.testing.assert_array_equal(silenced[:, :, 0], plain[1]["suffix.attn.z"][0][:, :, 0])
    replaced = found["mean"][1]["prefix.attn.z"][0]
    images = len(CONFIG.cameras) * CONFIG.siglip.num_tokens
    np.testing.assert_array_equal(replaced[:, images:, 1], np.broadcast_to(mean[0, 1], replaced[:, images:, 1].shape))
    np.testing.assert_array_equal(replaced[:, :images], plain[1]["prefix.attn.z"][0][:, :images])


def test_prefix_edits_in_the_last_layer_change_nothing_and_are_reported(plain, single):
    np.testing.assert_array_equal(single[1]["last"][0], plain[0])
    assert not np.array_equal(single[1]["last"][1]["prefix.ffn.post"], plain[1]["prefix.ffn.post"])
    assert "2 entries are in layer 1" in without_effect(single[2]["last"], CONFIG)[0]
    assert without_effect(single[2]["override"], CONFIG) == []


def test_steps_limit_suffix_edits_and_prefix_edits_live_in_the_cache(inputs, plain_sample):
    nowhere = both(steps=(2, 5))
    only_prefix = dataclasses.replace(nowhere, prefix=both(strength=0.0).prefix)
    np.testing.assert_array_equal(sampled(*inputs, only_prefix), plain_sample)
    assert not np.array_equal(sampled(*inputs, nowhere), plain_sample)  # the prefix is read once, before any step
    first, second = (dataclasses.replace(only_prefix, suffix=both(steps=steps).suffix) for steps in ((0, 1), (1, 2)))
    assert not np.array_equal(sampled(*inputs, first), sampled(*inputs, second))


def test_noise_depends_on_its_seed_alone(inputs):
    base = both()
    heads = [dataclasses.replace(base.suffix[1], seed=np.uint32(seed)) for seed in (1, 1, 2)]
    one, same, other = (
        observed(*inputs, dataclasses.replace(base, suffix=(base.suffix[0], edit)))[0] for edit in heads
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ffn_edit(CONFIG, "prefix", {2: [0]}), "layers below 2"),
        (lambda: ffn_edit(CONFIG, "suffix", {0: [8]}), "indices below 8"),
        (lambda: head_edit(CONFIG, "suffix", [(0, 2)]), r"pairs below \(2, 2\)"),
    ],
)
def test_edits_outside_of_the_model_are_refused(make, message):
    with pytest.raises(ModelError, match=message):
        make()


def test_arrays_of_another_model_are_refused(inputs):
    wide = flow_config(action_expert=dataclasses.replace(CONFIG.action_expert, mlp_dim=12))
    edits = Edits(suffix=(ffn_edit(wide, "suffix", {0: [11]}),))
    with pytest.raises(ModelError, match=r"found shape \(2, 12\), expected \(2, 8\)"):
        observed(*inputs, edits)
