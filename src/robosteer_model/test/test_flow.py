"""Pins relations that hold for any sizes: two ways to one velocity, masked tokens without influence, LoRA by merging.

Regressions: numbers taken from stock sizes instead of the config (KV heads, patch shape, absent cameras); a state that
leaks into pi0.5; a cache that forgets validity; an adapter scale that is wrong when alpha differs from rank.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import random_params
from tiny_batch import batch, chunk, flow_config

from robosteer_model import pi0
from robosteer_model.config import GemmaConfig, LoraConfig, SiglipConfig
from robosteer_model.errors import ModelError
from robosteer_model.lora import merge_lora
from robosteer_model.params import flatten, unflatten
from robosteer_model.pruning import bucket, prune, restore

TIME = jnp.asarray([0.3, 0.9])
velocity = jax.jit(pi0.velocity, static_argnames=("config", "taps"))


def _config(kv_heads, model_type):
    attn, ffn = LoraConfig(2, 6.0), LoraConfig(3, 5.0)
    sizes = {"num_heads": 4, "num_kv_heads": kv_heads, "head_dim": 4, "lora_attn": attn, "lora_ffn": ffn}
    return flow_config(
        model_type=model_type,
        paligemma=GemmaConfig(8, 2, 16, **sizes),
        action_expert=GemmaConfig(12, 2, 8, **sizes),
        siglip=SiglipConfig(8, 1, 8, 2, patch_size=(8, 14), image_resolution=(16, 28)),
    )


@pytest.mark.parametrize(("kv_heads", "model_type"), [(2, "pi0"), (4, "pi05")])
def test_joint_cached_and_merged_passes_agree(kv_heads, model_type):
    config = _config(kv_heads, model_type)
    params, observation, x_t = random_params(config), batch(config), chunk(config)

    @jax.jit
    def both(params, observation, x_t):
        prefix = pi0.embed_prefix(params, config, observation)
        joint = pi0.joint_pass(params, config, observation, x_t, TIME, prefix=prefix).velocity
        prefilled = pi0.prefill(params, config, observation, prefix=prefix)
        return joint, pi0.cached_velocity(params, config, prefilled, observation.state, x_t, TIME)[0]

    joint, cached = both(params, observation, x_t)
    np.testing.assert_allclose(joint, cached, rtol=2e-4, atol=2e-5)
    merged, plain = merge_lora(params, config)
    assert not any("lora" in path for path in flatten(merged))
    np.testing.assert_allclose(velocity(merged, plain, observation, x_t, TIME)[0], joint, rtol=2e-3, atol=2e-4)


@pytest.fixture(scope="module")
def model():
    config = flow_config()
    return config, random_params(config), batch(config), chunk(config)


def test_masked_tokens_and_pi05_state_have_no_influence(model):
    config, params, observation, x_t = model
    expected = velocity(params, config, observation, x_t, TIME)[0]
    hidden = config.cameras[-1]
    changed = dataclasses.replace(
        observation,
        images=observation.images | {hidden: observation.images[hidden].at[0].add(0.5)},
        tokenized_prompt=jnp.where(observation.tokenized_prompt_mask, observation.tokenized_prompt, 7),
        state=observation.state + 1,
    )
    np.testing.assert_array_equal(velocity(params, config, changed, x_t, TIME)[0], expected)


def test_pruned_shapes_give_the_same_velocity_and_restored_ones_the_same_bits(model):
    config, params, observation, x_t = model
    observation = dataclasses.replace(
        observation, image_masks=observation.image_masks | {config.cameras[-1]: jnp.asarray([False, False])}
    )
    expected = velocity(params, config, observation, x_t, TIME)[0]
    pruned = prune(observation, config, multiple=4)
    assert set(pruned.images) == {config.cameras[0]}
    assert pruned.tokenized_prompt.shape == (2, 8)
    np.testing.assert_allclose(velocity(params, config, pruned, x_t, TIME)[0], expected, rtol=1e-4, atol=1e-5)
    restored = restore(pruned, config)
    np.testing.assert_array_equal(velocity(params, config, restored, x_t, TIME)[0], expected)


def test_prompt_lengths_fall_into_few_buckets():
    assert [bucket(n, 200) for n in (1, 16, 17, 199, 200)] == [16, 16, 32, 200, 200]


def test_loss_is_the_squared_error_of_the_velocity_and_draws_openpis_noise(model):
    config, params, observation, actions = model
    noise, time = pi0.draw_noise_and_time(jax.random.key(7), actions.shape)
    x_t = time[:, None, None] * noise + (1 - time[:, None, None]) * actions
    by_hand = jnp.mean((velocity(params, config, observation, x_t, time)[0] - (noise - actions)) ** 2, axis=-1)
    loss = jax.jit(pi0.compute_loss, static_argnames="config")(jax.random.key(7), params, config, observation, actions)
    np.testing.assert_allclose(loss, by_hand, rtol=1e-5)
    assert loss.shape == (2, config.action_horizon)


def test_lora_leaves_without_their_sizes_are_refused(model):
    config, params, observation, x_t = model
    flat = flatten(params)
    w = flat["PaliGemma/llm/layers/attn/q_einsum/w"]
    flat["PaliGemma/llm/layers/attn/q_einsum/lora_a"] = np.zeros((*w.shape[:-1], 2), np.float32)
    flat["PaliGemma/llm/layers/attn/q_einsum/lora_b"] = np.zeros((*w.shape[:-2], 2, w.shape[-1]), np.float32)
    with pytest.raises(ModelError, match="rank and alpha"):
        jax.eval_shape(lambda p: pi0.velocity(p, config, observation, x_t, TIME), unflatten(flat))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": {}}, "found none"),
        ({"images": {"wrist": jnp.zeros((2, 28, 28, 3))}}, "wrist"),
        ({"images": {"base_0_rgb": jnp.zeros((2, 30, 30, 3))}}, "resize it first"),
    ],
)
def test_wrong_images_are_refused_with_what_was_expected(model, change, message):
    config, params, observation, x_t = model
    with pytest.raises(ModelError, match=message):
        pi0.velocity(params, config, dataclasses.replace(observation, **change), x_t, TIME)
