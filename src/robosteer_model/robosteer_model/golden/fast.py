"""Checks pi0-FAST: embeddings, per-head activations, logits, loss, gradients, prefill and greedy decoding."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from robosteer_model import pi0_fast
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
from robosteer_model.layers import attention_mask, last_valid_index, positions_of
from robosteer_model.observation import Observation
from robosteer_model.params import flatten
from robosteer_model.sequences import embed_prefix
from robosteer_model.taps import Tap

JOINT_TAPS = (
    Tap("prefix.attn.z", label="heads_joint_last_prefix"),
    Tap("suffix.attn.z", label="heads_joint_first_suffix"),
)
PREFILL_TAPS = (Tap("prefix.attn.z", label="heads_prefill_last"),)
DECODE_TAPS = (Tap("suffix.attn.z", label="heads_decode_step0"),)
# Near ties flip in bfloat16, as openpi's own tokens would between compilers: there the logits are what counts.
TOKENS = ("first_token", "sample_actions_tokens")


def claims(keys: frozenset[str]) -> frozenset[str]:
    """Every key of a file with prefill logits."""
    return keys if {"out/prefill_positions", "config_json"} <= keys else frozenset()


def check(path: Path) -> Iterator[Comparison]:
    """Compare every `out/` and `grad/` array."""
    arrays = load_arrays(path)
    found = _found(arrays)
    for name, value in arrays.items():
        if not name.startswith(("out/", "grad/")):
            continue
        if name not in found:
            yield miss(name, "our code computes nothing of this name")
        elif name.split("/")[-1] in TOKENS:
            yield _compare_tokens(name, found, arrays)
        elif value.dtype.kind != "f":
            yield compare_exact(name, found[name], value)
        else:
            yield compare(name, found[name], value, tolerance_of(name, arrays), gradient_floor(name, arrays))


def _compare_tokens(name: str, found: dict[str, Any], arrays: Arrays) -> Comparison:
    """Exact in float32. In bfloat16 a differing token passes when openpi's logits nearly tie."""
    exact = compare_exact(name, found[name], arrays[name])
    if exact.ok or not name.startswith("out/bf16/"):
        return exact
    logits = arrays["out/bf16/prefill_last_logits"]
    best_two = jnp.sort(jnp.asarray(logits), axis=-1)[:, -2:]
    gap = float(jnp.min(best_two[:, 1] - best_two[:, 0])) / float(jnp.max(jnp.abs(logits)))
    tolerance = tolerance_of("out/bf16/prefill_last_logits", arrays)
    later = name.endswith("sample_actions_tokens") and _agrees_until_near_tie(found, arrays)
    return dataclasses.replace(exact, ok=gap <= tolerance or later, note="near tie in bfloat16; see the logits")


def _agrees_until_near_tie(found: dict[str, Any], arrays: Arrays) -> bool:
    """Whether the first generated token is openpi's, so that only later near ties can differ."""
    ours, theirs = found["out/bf16/sample_actions_tokens"], arrays["out/bf16/sample_actions_tokens"]
    return bool((ours[:, 0] == theirs[:, 0]).all())


def _inference_observation(arrays: Arrays) -> Observation:
    """The prompts without action tokens."""
    observation = model_observation(arrays)
    tokens = jnp.asarray(arrays["input/infer_tokenized_prompt"])
    return dataclasses.replace(
        observation,
        tokenized_prompt=tokens,
        tokenized_prompt_mask=jnp.asarray(arrays["input/infer_tokenized_prompt_mask"]),
        token_ar_mask=jnp.zeros(tokens.shape, jnp.int32),
        token_loss_mask=jnp.zeros(tokens.shape, bool),
    )


def _found(arrays: Arrays) -> dict[str, Any]:
    params, observation, inference = model_params(arrays), model_observation(arrays), _inference_observation(arrays)
    found: dict[str, Any] = {}
    for short in DTYPES:
        tokens = arrays.get(f"out/{short}/sample_actions_tokens")
        if tokens is None:
            continue
        config = model_config(arrays, short)
        values, exact = _observe(params, config, observation, inference)
        found |= {f"out/{name}": value for name, value in exact.items()}
        values["sample_actions_tokens"], _ = _sample(params, config, inference, max_decoding_steps=tokens.shape[1])
        if short == "f32":
            values["loss"], gradients = _loss_and_gradients(params, config, observation)
            found |= {f"grad/{path}": value for path, value in flatten(gradients).items()}
        found |= {f"out/{short}/{name}": value for name, value in values.items()}
    return found


_sample = jax.jit(pi0_fast.sample_tokens, static_argnames=("config", "max_decoding_steps", "temperature", "taps"))


@partial(jax.jit, static_argnames="config")
def _loss_and_gradients(params: Any, config: ModelConfig, observation: Observation) -> tuple[jax.Array, Any]:
    """Loss (B,) and the gradients of its mean."""

    def loss(params: Any) -> tuple[jax.Array, jax.Array]:
        each = pi0_fast.compute_loss(params, config, observation)
        return jnp.mean(each), each

    (_, each), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    return each, gradients


@partial(jax.jit, static_argnames="config")
def _observe(
    params: Any, config: ModelConfig, observation: Observation, inference: Observation
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Floating-point values of one compute dtype, and the masks and positions that no dtype changes."""
    sequence = embed_prefix(params, config, observation)
    text = pi0_fast.text_pass(params, config, observation, taps=JOINT_TAPS)
    decoding = pi0_fast.prefill(params, config, inference, 1, taps=PREFILL_TAPS)
    token = jnp.argmax(decoding.logits, axis=-1)
    decoded, decode_taps = pi0_fast.decode_step(params, config, decoding, token, 0, taps=DECODE_TAPS)
    values = {
        "embedded_inputs": sequence.tokens,
        "pre_logits_text": text.pre_logits,
        "logits_text": text.logits,
        "loss": pi0_fast.compute_loss(params, config, observation),
        "prefill_last_logits": decoding.logits,
        "first_token": token[:, None],
        "step1_logits": decoded.logits,
        **text.taps,
        **decoding.taps,
        **decode_taps,
    }
    return values, _masks(sequence.valid, observation, inference)


def _masks(valid: jax.Array, observation: Observation, inference: Observation) -> dict[str, Any]:
    """Masks and indices of the training sequence, and of the right-aligned prompts."""
    images = valid.shape[1] - observation.tokenized_prompt.shape[1]
    causal = jnp.pad(observation.token_ar_mask, ((0, 0), (images, 0))) if observation.token_ar_mask is not None else 0
    prompt = jnp.concatenate([valid[:, :images], inference.tokenized_prompt_mask], axis=1)
    attention = attention_mask(prompt, jnp.zeros(prompt.shape[1], bool))
    _, aligned, _ = pi0_fast.align_right(prompt[..., None], prompt, attention)
    return {
        "input_mask": valid,
        "ar_mask": causal,
        "last_prefix_index": last_valid_index(valid & (causal == 0)),
        "first_suffix_index": jnp.argmax(valid & (causal == 1), axis=1),
        "prefill_mask": aligned,
        "prefill_positions": positions_of(aligned),
    }
