"""Pins pi0-FAST: right alignment, prefill against the training pass, decoding, taps and edits of both streams.

Regressions: padding that shifts a prompt; a cache slot or position that is off (openpi's own skipped position is kept);
a stop that waits for nothing; a suffix edit that reaches the prompt.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import random_params
from tiny_batch import batch, fast_config

from robosteer_model import pi0_fast
from robosteer_model.edits import Edits, ffn_edit
from robosteer_model.errors import ModelError
from robosteer_model.taps import Tap

CONFIG = fast_config()
TAPS = (
    Tap("prefix.ffn.post", at="all", label="all"),
    Tap("prefix.attn.z"),
    Tap("suffix.attn.z"),
    Tap("suffix.ffn.post", at="suffix.last", label="last"),
)


@pytest.fixture(scope="module")
def model():
    observation = batch(CONFIG)
    causal = observation.token_ar_mask > 0
    prompt = dataclasses.replace(
        observation,
        tokenized_prompt=jnp.where(causal, 0, observation.tokenized_prompt),
        tokenized_prompt_mask=observation.tokenized_prompt_mask & ~causal,
        token_ar_mask=jnp.zeros_like(observation.token_ar_mask),
    )
    return random_params(CONFIG), observation, prompt


@jax.jit
def sample(params, prompt, edits=None):
    return pi0_fast.sample_tokens(params, CONFIG, prompt, max_decoding_steps=3, taps=TAPS[1:3], edits=edits)


@jax.jit
def text(params, observation, edits=None):
    return pi0_fast.text_pass(params, CONFIG, observation, taps=TAPS, edits=edits)


PREFILL_TAPS = (
    Tap("prefix.attn.z"),
    Tap("prefix.resid.pre", at="image[base_0_rgb]", label="image"),
    Tap("prefix.resid.pre", at="all"),
)


@pytest.fixture(scope="module")
def decoding(model):
    params, _, prompt = model
    size = 2 * CONFIG.siglip.num_tokens + CONFIG.max_token_len
    state = jax.jit(lambda p, o: pi0_fast.prefill(p, CONFIG, o, 3, taps=PREFILL_TAPS))(params, prompt)
    assert state.prefill_size == size
    return state


def test_prefill_predicts_what_the_training_pass_predicts(model, decoding):
    params, observation, prompt = model
    joint = text(params, observation)
    last = np.asarray(prompt.tokenized_prompt_mask).sum(axis=1) - 1
    np.testing.assert_allclose(decoding.logits, joint.logits[[0, 1], last], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(decoding.taps["prefix.attn.z"], joint.taps["prefix.attn.z"], rtol=1e-4, atol=1e-5)


def test_greedy_tokens_are_the_most_likely_ones_step_by_step(model, decoding):
    params, _, prompt = model
    tokens, taps = sample(params, prompt)

    @jax.jit
    def decode(params, decoding, token, step):
        return pi0_fast.decode_step(params, CONFIG, decoding, token, step, taps=TAPS[2:3])

    for step in range(3):
        token = jnp.argmax(decoding.logits, axis=-1)
        np.testing.assert_array_equal(tokens[:, step], token)
        decoding, found = decode(params, decoding, token, step)
        np.testing.assert_allclose(taps["suffix.attn.z"][step], found["suffix.attn.z"], rtol=1e-4, atol=1e-5)
    assert tokens.dtype == jnp.float32


def test_generation_stops_when_every_row_ends(model):
    params, _, prompt = model
    first = np.asarray(sample(params, prompt)[0])[:, 0].astype(int)
    table = np.array(params["PaliGemma"]["llm"]["embedder"]["input_embedding"])
    table[pi0_fast.EOS_TOKEN] = 2 * (table[first[0]] + table[first[1]])  # now the likeliest in both rows
    llm = params["PaliGemma"]["llm"] | {"embedder": {"input_embedding": table}}
    tokens, _ = sample(params | {"PaliGemma": params["PaliGemma"] | {"llm": llm}}, prompt)
    np.testing.assert_array_equal(tokens, [[pi0_fast.EOS_TOKEN, 0, 0]] * 2)


def edits_of(prefix=0.0, suffix=0.0):
    return Edits(
        prefix=(ffn_edit(CONFIG, "prefix", {0: [1]}, alpha=4.0, strength=prefix),),
        suffix=(ffn_edit(CONFIG, "suffix", {0: [1]}, alpha=4.0, strength=suffix),),
    )


def test_edits_reach_their_own_stream_only(model):
    params, observation, prompt = model
    before = text(params, observation, edits_of()).taps["all"][0]
    np.testing.assert_array_equal(before, text(params, observation).taps["all"][0])
    causal = np.asarray(observation.token_ar_mask, bool)
    causal = np.pad(causal, ((0, 0), (before.shape[1] + 1 - causal.shape[1], 0)))[:, :-1]
    for edits, own in ((edits_of(prefix=1), ~causal), (edits_of(suffix=1), causal)):
        after = text(params, observation, edits).taps["all"][0]
        np.testing.assert_array_equal(after[own][:, 1], 4.0)
        np.testing.assert_array_equal(after[~own], before[~own])
    plain, taps = sample(params, prompt)
    np.testing.assert_array_equal(sample(params, prompt, edits_of())[0], plain)
    prompted = sample(params, prompt, edits_of(prefix=1))[1]
    decoded = sample(params, prompt, edits_of(suffix=1))[1]
    assert not np.array_equal(prompted["prefix.attn.z"], taps["prefix.attn.z"])
    np.testing.assert_array_equal(decoded["prefix.attn.z"], taps["prefix.attn.z"])
    assert not np.array_equal(decoded["suffix.attn.z"], taps["suffix.attn.z"])


def test_alignment_keeps_named_tokens(model, decoding):
    prompt, per_image = model[2], CONFIG.siglip.num_tokens
    image, everything = decoding.taps["image"], decoding.taps["prefix.resid.pre"]
    lengths = 2 * per_image + np.asarray(prompt.tokenized_prompt_mask).sum(axis=1)
    for row, length in enumerate(lengths):
        start = everything.shape[2] - length
        np.testing.assert_array_equal(image[:, row], everything[:, row, start : start + per_image])


def test_temperature_draws_from_the_key(model):
    params, _, prompt = model
    hot = partial(pi0_fast.sample_tokens, params, CONFIG, prompt, max_decoding_steps=3, temperature=1e3)
    draw = jax.jit(lambda key: hot(key)[0])
    one, same, other = draw(jax.random.key(0)), draw(jax.random.key(0)), draw(jax.random.key(1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_masks_that_fast_needs_are_asked_for(model):
    params, observation, _ = model
    with pytest.raises(ModelError, match="token_loss_mask"):
        pi0_fast.compute_loss(params, CONFIG, dataclasses.replace(observation, token_loss_mask=None))
    with pytest.raises(ModelError, match="token_ar_mask"):
        pi0_fast.text_pass(params, CONFIG, dataclasses.replace(observation, token_ar_mask=None))
