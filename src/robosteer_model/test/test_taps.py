"""Pins taps: what each name holds, which tokens it takes, and that asking for nothing costs nothing.

Regressions: a tap that reads a padding token as `prefix.last`; a misspelt name that silently returns nothing; results
in another layer order than asked; taps that change the model's numbers.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import random_params
from tiny_batch import batch, chunk, flow_config

from robosteer_model import pi0
from robosteer_model.errors import ModelError
from robosteer_model.taps import SITES, Tap

TIME = jnp.asarray([0.3, 0.9])
velocity = jax.jit(pi0.velocity, static_argnames=("config", "taps"))


@pytest.fixture(scope="module")
def model():
    config = flow_config(model_type="pi0")
    return config, random_params(config), batch(config), chunk(config)


def _every_tap():
    """Every site of both streams at every token, and named tokens under labels."""
    named = {"prefix": ("prefix.last", "text", "image[left_wrist_0_rgb]"), "suffix": ("state", "action[-1]", "actions")}
    taps = [Tap(f"{stream}.{site}", at="all") for stream in ("prefix", "suffix") for site in SITES]
    taps += [Tap(f"{s}.attn.z", at=at, label=at) for s, names in named.items() for at in names]
    taps += [Tap("suffix.attn.z", layers=(1, 0), label="reversed", at="all")]
    return (*taps, Tap("suffix.resid.post", at="actions", mean=True, label="mean"))


TAPS = _every_tap()


@pytest.fixture(scope="module")
def everything(model):
    config, params, observation, x_t = model
    return velocity(params, config, observation, x_t, TIME, taps=TAPS)


def test_taps_do_not_change_a_bit_of_the_velocity(model, everything):
    plain, nothing = velocity(*_arguments(model))
    assert nothing == {}
    np.testing.assert_array_equal(plain, everything[0])


def _arguments(model):
    config, params, observation, x_t = model
    return params, config, observation, x_t, TIME


def test_without_taps_or_edits_the_layers_return_nothing(model):
    config, params, observation, x_t = model
    jaxpr = jax.make_jaxpr(lambda p, o, x, t: pi0.velocity(p, config, o, x, t)[0])(params, observation, x_t, TIME)
    scans = [equation for equation in jaxpr.eqns if equation.primitive.name == "scan"]
    assert [len(scan.outvars) - scan.params["num_carry"] for scan in scans] == [0, 0]  # SigLIP, Gemma


def test_sites_hold_what_their_names_say(model, everything):
    params, taps = model[1], everything[1]
    layers = params["PaliGemma"]["llm"]["layers"]
    for stream, suffix in (("prefix", ""), ("suffix", "_1")):
        found = {site: taps[f"{stream}.{site}"] for site in SITES}
        out = jnp.einsum("LBTNH,LNHD->LBTD", found["attn.z"], layers["attn"][f"attn_vec_einsum{suffix}"]["w"])
        np.testing.assert_allclose(found["resid.mid"], found["resid.pre"] + out, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found["resid.post"], found["resid.mid"] + found["ffn.out"], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(found["resid.pre"][1:], found["resid.post"][:-1])
        linear = layers[f"mlp{suffix}"]["linear"]
        by_hand = jnp.einsum("LBTF,LFD->LBTD", found["ffn.post"], linear)
        np.testing.assert_allclose(found["ffn.out"], by_hand, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(np.sum(found["attn.pattern"], axis=-1), 1.0, rtol=1e-5)
        assert found["ffn.pre"].shape == found["ffn.post"].shape
        assert found["attn.q"].shape == found["attn.z"].shape


def test_tokens_are_chosen_by_meaning(model, everything):
    config, _, observation, _ = model
    taps = everything[1]
    per_image = config.siglip.num_tokens
    images = len(config.cameras) * per_image
    last = images + np.asarray(observation.tokenized_prompt_mask).sum(axis=1) - 1
    prefix, suffix = taps["prefix.attn.z"], taps["suffix.attn.z"]
    np.testing.assert_array_equal(taps["prefix.last"], prefix[:, [0, 1], last])
    np.testing.assert_array_equal(taps["text"], prefix[:, :, images:])
    np.testing.assert_array_equal(taps["image[left_wrist_0_rgb]"], prefix[:, :, per_image:images])
    np.testing.assert_array_equal(taps["state"], suffix[:, :, 0])
    np.testing.assert_array_equal(taps["action[-1]"], suffix[:, :, config.action_horizon])
    np.testing.assert_array_equal(taps["actions"], suffix[:, :, 1:])
    np.testing.assert_array_equal(taps["reversed"], suffix[::-1])
    np.testing.assert_allclose(taps["mean"], taps["suffix.resid.post"][:, :, 1:].mean(axis=2), rtol=1e-6)


def test_state_token_of_pi0_ignores_noise_and_time(model, everything):
    config, params, observation, x_t = model
    _, other = velocity(params, config, observation, x_t + 1, TIME / 2, taps=TAPS)
    np.testing.assert_allclose(other["state"], everything[1]["state"], rtol=1e-5, atol=1e-6)


def test_sampling_returns_prefix_taps_once_and_suffix_taps_per_step(model):
    config, params, observation, x_t = model
    taps = (Tap("prefix.attn.z"), Tap("suffix.attn.z"))
    sample = jax.jit(pi0.sample_actions, static_argnames=("config", "num_steps", "taps"))
    actions, found = sample(params, config, observation, x_t, num_steps=3, taps=taps)
    heads = (config.paligemma.depth, 2, config.paligemma.num_heads, config.paligemma.head_dim)
    assert found["prefix.attn.z"].shape == heads
    assert found["suffix.attn.z"].shape == (3, *heads)
    assert actions.shape == x_t.shape


def test_chosen_units_are_those_of_the_whole_activation(model, everything):
    taps = (Tap("prefix.ffn.post", layers=(1,), at="image[left_wrist_0_rgb]", units=(5, 2)),)
    _, found = velocity(*_arguments(model), taps=taps)
    patches = model[0].siglip.num_tokens
    whole = everything[1]["prefix.ffn.post"][1:2]
    slot = model[0].cameras.index("left_wrist_0_rgb")
    expected = whole[:, :, slot * patches : (slot + 1) * patches][..., [5, 2]]
    np.testing.assert_array_equal(found["prefix.ffn.post"], expected)


@pytest.mark.parametrize(
    ("make", "nearest"),
    [
        (lambda: Tap("sufix.attn.z"), "suffix.attn.z"),
        (lambda: Tap("prefix.ffn.posst"), "prefix.ffn.post"),
    ],
)
def test_unknown_names_list_the_nearest(make, nearest):
    with pytest.raises(ModelError, match=nearest):
        make()


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        ((Tap("prefix.attn.z", at="image[base_1_rgb]"),), r"image\[base_0_rgb\]"),
        ((Tap("suffix.attn.z", at="action[3]"),), "action"),
        ((Tap("suffix.attn.z", layers=(2,)),), "expected 0..1"),
        ((Tap("prefix.ffn.post", units=(0, 99_999)),), "found unit 99999"),
        ((Tap("suffix.attn.z"), Tap("suffix.attn.z", at="state")), "give one of them a label"),
    ],
)
def test_impossible_requests_say_what_is_possible(model, taps, message):
    config, params, observation, x_t = model
    with pytest.raises(ModelError, match=message):
        jax.eval_shape(lambda p: pi0.velocity(p, config, observation, x_t, TIME, taps=taps), params)
