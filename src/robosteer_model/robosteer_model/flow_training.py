"""The flow-matching loss without the work that it does not need.

The prefix never sees the suffix, so that it can be read once, into keys and values, for any number of (noise, time)
draws; and of the last layer only keys and values are read. Equal to `pi0.flow_loss` up to rounding.

Axis letters: B batch, D draws, H action_horizon, A action_dim, T prefix length, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from robosteer_model import pi0
from robosteer_model.config import ModelConfig
from robosteer_model.gemma import LAST_LAYER, KvCache, prefix_cache
from robosteer_model.layers import attention_mask, positions_of
from robosteer_model.observation import Observation
from robosteer_model.params import Tree, flatten, unflatten
from robosteer_model.remat import Remat
from robosteer_model.sequences import embed_prefix

_LAYERS = "PaliGemma/llm/layers/"
_LAST = f"PaliGemma/llm/{LAST_LAYER}/"
_READ_IN_LAST_LAYER = ("attn/kv_einsum/", "attn/qkv_einsum/", "pre_attention_norm/")


def without_dead_layer(params: Mapping[str, Any]) -> Tree:
    """The tree with expert 0's last layer reduced to what keys and values need (below `PaliGemma/llm/last`).

    Works on arrays of any kind; under `jit` the shortened stacks are copies.

    Args:
        params: openpi's tree, with or without LoRA leaves.
    """
    short: Tree = {}
    for path, leaf in flatten(params).items():
        name = path.removeprefix(_LAYERS)
        if name == path or is_of_second_expert(path):
            short[path] = leaf
            continue
        short[path] = leaf[:-1]
        if name.startswith(_READ_IN_LAST_LAYER):
            short[_LAST + name.removeprefix("attn/")] = leaf[-1]
    return unflatten(short)


def is_of_second_expert(path: str) -> bool:
    """Whether a leaf belongs to the action expert's part of the language model."""
    return any(part.endswith("_1") for part in path.split("/"))


def read_prefix(
    params: Mapping[str, Any], config: ModelConfig, observation: Observation, *, remat: Remat = "off"
) -> pi0.Prefilled:
    """`pi0.prefill` as far as the action expert reads it; its `output` is the embedded prefix, not a result.

    Args:
        params: openpi's tree, or `without_dead_layer` of it.
        config: the model.
        observation: batch of inputs.
        remat: what the backward pass computes again.
    """
    prefix = embed_prefix(dict(params), config, observation, remat=remat)
    mask = attention_mask(prefix.valid, jnp.zeros(prefix.valid.shape[1], bool))
    llm = params["PaliGemma"]["llm"]
    cache = prefix_cache(llm, config, prefix.tokens, positions_of(prefix.valid), mask, remat=remat)
    return pi0.Prefilled(cache, prefix.valid, prefix.tokens, {})


def repeat_prefix(prefilled: pi0.Prefilled, times: int) -> pi0.Prefilled:
    """Every row `times` times in a row: one prefix, many suffixes."""
    cache = KvCache(*(jnp.repeat(part, times, axis=1) for part in prefilled.cache))
    return prefilled._replace(cache=cache, valid=jnp.repeat(prefilled.valid, times, axis=0))


def shared_prefix_loss(
    params: Mapping[str, Any],
    config: ModelConfig,
    observation: Observation,
    actions: jax.Array,
    noise: jax.Array,
    time: jax.Array,
    *,
    remat: Remat = "off",
) -> jax.Array:
    """`pi0.flow_loss`, mean over draws: (B, H).

    Args:
        params: openpi's tree, or `without_dead_layer` of it.
        config: the model, pi0 or pi0.5.
        observation: batch of inputs.
        actions: (B, H, A), normalised.
        noise: (B, D, H, A).
        time: (B, D).
        remat: what the backward pass computes again.
    """
    draws = noise.shape[1]
    prefilled = repeat_prefix(read_prefix(params, config, observation, remat=remat), draws)
    t = time[..., None, None]
    target = noise - actions[:, None]
    x_t = t * noise + (1 - t) * actions[:, None]
    velocity, _ = pi0.cached_velocity(
        dict(params),
        config,
        prefilled,
        jnp.repeat(observation.state, draws, axis=0),
        x_t.reshape(-1, *actions.shape[1:]),
        time.reshape(-1),
        remat=remat,
    )
    return jnp.mean(jnp.square(velocity.reshape(noise.shape) - target), axis=(1, 3))
