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
from tiny_batch import batch, chunk, flow_config, prefix_valid

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
MEAN = np.random.default_rng(0).normal(size=(2, 2, 4)).astype(np.float32)


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


def everywhere(ffn=0.5, heads=0.5, noise=0.1, scale=0.25, seed=0, alpha=2.5, beta=0.5, steps=(0, 10)):
    """An FFN edit in layer 0 and a noisy head edit in layer 1 of both streams; one static structure."""
    coefficients = {"alpha": alpha, "beta": beta, "strength": ffn, "steps": steps}
    changes = {"scale": scale, "noise": noise, "seed": seed, "strength": heads, "steps": steps}
    return Edits(
        *(
            (ffn_edit(CONFIG, s, {0: [3, 5]}, **coefficients), head_edit(CONFIG, s, [(1, 1)], **changes))
            for s in ("prefix", "suffix")
        )
    )


def scoped(mean=0.0, last=0.0, override=0.0, silence=0.0):
    """Four edits with scopes of their own, all off unless given a strength; one static structure."""
    return Edits(
        prefix=(
            head_edit(CONFIG, "prefix", [(0, 1)], mean=MEAN, scope="text", strength=mean),
            ffn_edit(CONFIG, "prefix", {1: [0, 1]}, alpha=50.0, strength=last),
        ),
        suffix=(
            ffn_edit(CONFIG, "suffix", {0: [2]}, alpha=3.0, scope="action[1]", strength=override),
            head_edit(CONFIG, "suffix", [(0, 1)], strength=silence),
        ),
    )


def test_strength_zero_keeps_every_bit_and_no_value_recompiles(inputs, plain, plain_sample):
    TRACES.clear()
    off = everywhere(ffn=0, heads=0)
    velocity, taps = observed(*inputs, off)
    np.testing.assert_array_equal(velocity, plain[0])
    for name, value in taps.items():
        np.testing.assert_array_equal(value, plain[1][name])
    np.testing.assert_array_equal(sampled(*inputs, off), plain_sample)
    changes = ({"alpha": 9}, {"ffn": 1}, {"scale": 0}, {"steps": (0, 1)}, {"beta": 1}, {"noise": 0}, {"seed": 4})
    for change in changes:
        assert not np.array_equal(observed(*inputs, everywhere(**change))[0], plain[0])
        assert not np.array_equal(sampled(*inputs, everywhere(**change)), plain_sample)
    assert sorted(TRACES) == ["sample", "velocity"]


def test_blends_follow_the_stated_formulas_and_touch_nothing_else(inputs, plain):
    taps = observed(*inputs, everywhere(heads=0))[1]
    for name in ("prefix.ffn.post", "suffix.ffn.post"):
        before, after = np.asarray(plain[1][name][0]), np.asarray(taps[name][0])
        a = before[..., [3, 5]]
        np.testing.assert_allclose(after[..., [3, 5]], a + 0.5 * (2.5 + 0.5 * a - a), rtol=1e-5)
        np.testing.assert_array_equal(np.delete(after, [3, 5], axis=-1), np.delete(before, [3, 5], axis=-1))
    scaled = observed(*inputs, everywhere(ffn=0, noise=0))[1]["suffix.attn.z"][1]
    before = plain[1]["suffix.attn.z"][1]
    np.testing.assert_allclose(scaled[..., 1, :], before[..., 1, :] * (1 + 0.5 * (0.25 - 1)), rtol=1e-5)
    np.testing.assert_array_equal(scaled[..., 0, :], before[..., 0, :])


def test_noise_has_the_stated_deviation_and_depends_on_its_seed_alone(inputs):
    runs = [everywhere(noise=0), everywhere(), everywhere(), everywhere(seed=1)]
    silent, one, same, other = (np.asarray(observed(*inputs, run)[1]["prefix.attn.z"][1]) for run in runs)
    noise = (one - silent)[..., 1, :]
    assert np.std(noise) == pytest.approx(0.05, rel=0.3)  # strength 0.5 of a deviation of 0.1
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_full_override_sets_one_coefficient_of_one_token_exactly(inputs, plain):
    _, taps = observed(*inputs, scoped(override=1))
    expected = np.array(plain[1]["suffix.ffn.post"][0])
    expected[:, 1, 2] = 3.0
    np.testing.assert_array_equal(taps["suffix.ffn.post"][0], expected)
    # Padding rows see every key, the suffix's too, so only valid prefix tokens must keep their bits.
    valid = prefix_valid(CONFIG, inputs[1])
    untouched, found = (np.asarray(x[1]["prefix.ffn.post"]) for x in (plain, (None, taps)))
    np.testing.assert_array_equal(untouched[:, valid], found[:, valid])


def test_heads_are_silenced_or_replaced_by_their_mean_within_the_scope(inputs, plain):
    _, taps = observed(*inputs, scoped(mean=1, silence=1))
    silenced = taps["suffix.attn.z"][0]
    assert not np.any(silenced[:, :, 1])
    np.testing.assert_array_equal(silenced[:, :, 0], plain[1]["suffix.attn.z"][0][:, :, 0])
    replaced = taps["prefix.attn.z"][0]
    images = len(CONFIG.cameras) * CONFIG.siglip.num_tokens
    np.testing.assert_array_equal(replaced[:, images:, 1], np.broadcast_to(MEAN[0, 1], replaced[:, images:, 1].shape))
    np.testing.assert_array_equal(replaced[:, :images], plain[1]["prefix.attn.z"][0][:, :images])


def test_prefix_edits_in_the_last_layer_change_nothing_and_are_reported(inputs, plain):
    velocity, taps = observed(*inputs, scoped(last=1))
    np.testing.assert_array_equal(velocity, plain[0])
    assert not np.array_equal(taps["prefix.ffn.post"], plain[1]["prefix.ffn.post"])
    assert without_effect(scoped(), CONFIG) == [
        "prefix ffn edit: 2 entries are in layer 1, whose outputs never reach the actions"
    ]


def test_steps_limit_suffix_edits_and_prefix_edits_live_in_the_cache(inputs, plain_sample):
    off, beyond = everywhere(ffn=0, heads=0), everywhere(steps=(2, 5))
    np.testing.assert_array_equal(sampled(*inputs, Edits(off.prefix, beyond.suffix)), plain_sample)
    # The prefix is read once, before any step.
    assert not np.array_equal(sampled(*inputs, Edits(beyond.prefix, off.suffix)), plain_sample)
    first, second = (Edits(off.prefix, everywhere(steps=steps).suffix) for steps in ((0, 1), (1, 2)))
    assert not np.array_equal(sampled(*inputs, first), sampled(*inputs, second))


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
