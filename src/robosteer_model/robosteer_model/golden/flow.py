"""Checks pi0 and pi0.5: embeddings, masks, per-head activations, velocities, losses, samples, gradients."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_model import pi0
from robosteer_model.config import ModelConfig
from robosteer_model.golden.model_file import (
    DTYPES,
    Arrays,
    gradient_floor,
    load_arrays,
    model_config,
    model_observation,
    model_params,
    tolerance_of,
)
from robosteer_model.golden.report import Comparison, compare, compare_exact, miss
from robosteer_model.layers import attention_mask, positions_of
from robosteer_model.observation import Observation
from robosteer_model.params import flatten
from robosteer_model.sequences import cached_masks, embed_prefix, embed_suffix, joint_masks
from robosteer_model.taps import Tap

JOINT_TAPS = (
    Tap("prefix.attn.z", label="heads_joint_last_valid_prefix"),
    Tap("prefix.attn.z", at="all", label="prefix_z"),
    Tap("suffix.attn.z", label="heads_joint_first_suffix"),
    Tap("suffix.attn.z", at="suffix.last", label="heads_joint_last_suffix"),
)
PREFIX_TAPS = (
    Tap("prefix.attn.z", label="heads_prefixonly_last_valid_prefix"),
    Tap("prefix.attn.z", at="all", label="prefix_z"),
)
HEADS = Tap("suffix.attn.z")
KEY = 7


def claims(keys: frozenset[str]) -> frozenset[str]:
    """Every key of a file that has a suffix pass."""
    return keys if {"out/suffix_mask", "config_json"} <= keys else frozenset()


def check(path: Path) -> Iterator[Comparison]:
    """Compare every `out/` and `grad/` array."""
    arrays = load_arrays(path)
    expected = {name: value for name, value in arrays.items() if name.startswith(("out/", "grad/"))}
    found = _found(arrays)
    for name, value in expected.items():
        if name not in found:
            yield miss(name, "our code computes nothing of this name")
        elif value.dtype.kind != "f" or name == "out/key7_noise":
            yield compare_exact(name, found[name], value)
        else:
            yield compare(name, found[name], value, tolerance_of(name, expected), gradient_floor(name, expected))


def _found(arrays: Arrays) -> dict[str, Any]:
    """Our values under the file's names, for the compute dtypes that the file has."""
    params, observation = model_params(arrays), model_observation(arrays)
    inputs = {name: jnp.asarray(arrays[f"input/{name}"]) for name in ("actions", "noise", "time", "x_t")}
    found: dict[str, Any] = {}
    matches = (re.fullmatch(r"out/\w+/sample_actions_(\d+)", name) for name in arrays)
    steps = tuple(sorted({int(match[1]) for match in matches if match}))
    for short in DTYPES:
        if not any(name.startswith(f"out/{short}/") for name in arrays):
            continue
        config = model_config(arrays, short)
        values, exact = _observe(params, config, observation, inputs, steps)
        found |= {f"out/{name}": value for name, value in exact.items()}
        values["compute_loss_key7"] = _loss_of_key(jax.random.key(KEY), params, config, observation, inputs["actions"])
        if short == "f32":
            values["loss"], gradients = _loss_and_gradients(params, config, observation, inputs)
            found |= {f"grad/{path}": value for path, value in flatten(gradients).items()}
        found |= {f"out/{short}/{name}": value for name, value in values.items()}
    found["out/attn_mask_joint_packed"] = np.packbits(np.asarray(found.pop("out/attn_mask_joint")), axis=-1)
    found["out/key7_noise"], found["out/key7_time"] = pi0.draw_noise_and_time(
        jax.random.key(KEY), inputs["actions"].shape
    )
    return found


_loss_of_key = jax.jit(pi0.compute_loss, static_argnames="config")


@partial(jax.jit, static_argnames="config")
def _loss_and_gradients(
    params: Any, config: ModelConfig, observation: Observation, inputs: dict[str, jax.Array]
) -> tuple[jax.Array, Any]:
    """Loss (B, H) and the gradients of its mean."""

    def loss(params: Any) -> tuple[jax.Array, jax.Array]:
        each = pi0.flow_loss(params, config, observation, inputs["actions"], inputs["noise"], inputs["time"])
        return jnp.mean(each), each

    (_, each), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    return each, gradients


@partial(jax.jit, static_argnames=("config", "sample_steps"))
def _observe(
    params: Any,
    config: ModelConfig,
    observation: Observation,
    inputs: dict[str, jax.Array],
    sample_steps: tuple[int, ...],
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Floating-point values of one compute dtype, and the masks and positions that no dtype changes."""
    x_t, time, noise = inputs["x_t"], inputs["time"], inputs["noise"]
    prefix = embed_prefix(params, config, observation)
    suffix = embed_suffix(params, config, observation.state, x_t, time)
    last = prefix.layout.find("prefix.last")
    joint = pi0.joint_pass(params, config, observation, x_t, time, taps=JOINT_TAPS, prefix=prefix)
    prefilled = pi0.prefill(params, config, observation, taps=PREFIX_TAPS, prefix=prefix)
    cached, cached_heads = pi0.cached_velocity(params, config, prefilled, observation.state, x_t, time, taps=(HEADS,))
    first, first_heads = pi0.cached_velocity(
        params, config, prefilled, observation.state, noise, jnp.ones_like(time), taps=(HEADS,)
    )
    values = {
        "prefix_tokens": prefix.tokens,
        "suffix_tokens": suffix.tokens,
        "suffix_out": joint.suffix_output,
        "prefix_out_last_valid": last.take(joint.prefix_output, 1),
        "v_t": joint.velocity,
        "v_t_cached": cached,
        "v_sampling_step0": first,
        "loss": pi0.flow_loss(params, config, observation, inputs["actions"], noise, time),
        "kv_cache_k": prefilled.cache.k,
        "kv_cache_v": prefilled.cache.v,
        "heads_joint_last_prefix_position": joint.taps.pop("prefix_z")[:, :, -1],
        "heads_prefixonly_last_prefix_position": prefilled.taps.pop("prefix_z")[:, :, -1],
        "heads_cached_first_suffix": cached_heads[HEADS.key],
        "heads_sampling_step0_first_suffix": first_heads[HEADS.key],
        **joint.taps,
        **prefilled.taps,
    }
    for steps in sample_steps:
        actions, _ = pi0.denoise(params, config, prefilled, observation.state, noise, num_steps=steps)
        values[f"sample_actions_{steps}"] = actions
    if suffix.condition is not None:
        values["adarms_cond"] = suffix.condition
    valid, autoregressive = joint_masks(prefix, suffix)
    length = prefix.valid.shape[1]
    exact = {
        "prefix_mask": prefix.valid,
        "prefix_ar_mask": autoregressive[:length],
        "suffix_mask": valid[:, length:],
        "suffix_ar_mask": suffix.autoregressive,
        "positions_joint": positions_of(valid),
        "positions_suffix_cached": cached_masks(prefix.valid, suffix)[1],
        "last_valid_prefix_index": last.where,
        "attn_mask_joint": attention_mask(valid, autoregressive),
    }
    return values, exact
