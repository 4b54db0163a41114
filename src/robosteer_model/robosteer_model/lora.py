"""Low-rank adaptation as pure functions: adapted projections, and merging adapters into the weights.

Surprises that are openpi's and are kept: attention adapters are scaled by alpha/rank (or alpha/sqrt(rank)) but FFN
adapters are not; the output projection's low-rank path sums over heads in *both* steps, so it is not per head.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from robosteer_model.config import GemmaConfig, LoraConfig, ModelConfig
from robosteer_model.errors import ModelError
from robosteer_model.params import Tree, flatten, unflatten


def adapted_einsum(equation: str, x: jax.Array, leaf: Mapping[str, jax.Array], lora: LoraConfig | None) -> jax.Array:
    """`einsum(equation, x, w)` plus the scaled low-rank path when `lora_a` is among the leaves.

    Args:
        equation: "input,weight->output"; the weight's last two axes are the ones factored.
        x: input; weights are cast to its dtype.
        leaf: `w` and optionally `lora_a` (..., in, r), `lora_b` (..., r, out).
        lora: rank and scale.
    """
    out = jnp.einsum(equation, x, leaf["w"].astype(x.dtype))
    if "lora_a" not in leaf:
        return out
    down, up = _low_rank_equations(equation)
    low = jnp.einsum(down, x, leaf["lora_a"].astype(x.dtype))
    return out + jnp.einsum(up, low, leaf["lora_b"].astype(x.dtype)) * _configured(lora, "attention").scale


def _low_rank_equations(equation: str) -> tuple[str, str]:
    """Replace the weight's last axis, then its last but one, by the rank axis L."""
    left, output = equation.split("->")
    x, weight = left.split(",")
    inner, outer = weight[-2], weight[-1]
    low = output.replace(outer, "L")
    return f"{x},{weight.replace(outer, 'L')}->{low}", f"{low},{weight.replace(inner, 'L')}->{output}"


def adapted_matmul(x: jax.Array, weight: jax.Array, a: jax.Array | None, b: jax.Array | None) -> jax.Array:
    """`x @ weight + x @ a @ b`, unscaled, in x's dtype."""
    out = x @ weight.astype(x.dtype)
    if a is None or b is None:
        return out
    return out + (x @ a.astype(x.dtype)) @ b.astype(x.dtype)


def _configured(lora: LoraConfig | None, what: str) -> LoraConfig:
    if lora is None:
        raise ModelError(f"{what} LoRA: found factors in the parameters, expected a config with their rank and alpha")
    return lora


def merged_weight(name: str, weight: jax.Array, a: jax.Array, b: jax.Array, scale: float) -> jax.Array:
    """Fold one adapter into its weight, in float32.

    Args:
        name: einsum name; `attn_vec_einsum*` shares the sum of its B factors among heads.
        weight: (..., in, out).
        a: (..., in, r).
        b: (..., r, out).
        scale: factor on the low-rank product.
    """
    w, a, b = (jnp.asarray(leaf, jnp.float32) for leaf in (weight, a, b))
    if name.startswith("attn_vec_einsum"):
        b = jnp.sum(b, axis=-3, keepdims=True)
    return w + scale * (a @ b)


def merge_lora(params: Mapping[str, Any], config: ModelConfig) -> tuple[Tree, ModelConfig]:
    """Fold every adapter into the weights; other leaves are kept as they are.

    Returns:
        Parameters without LoRA leaves (merged weights in float32), and the config without LoRA.
    """
    flat = flatten(params)
    merged = {path: leaf for path, leaf in flat.items() if "lora" not in path}
    for path in flat:
        if not path.endswith("lora_a"):
            continue
        stem = path.removesuffix("lora_a")
        expert = _expert_config(config, stem)
        if stem.endswith("/"):  # an einsum's child; the FFN's factors are siblings named <weight>_lora_a
            weight, name, scale = f"{stem}w", stem.split("/")[-2], _configured(expert.lora_attn, "attention").scale
        else:
            weight, name, scale = stem.removesuffix("_"), "", 1.0
        merged[weight] = merged_weight(name, flat[weight], flat[path], flat[f"{stem}lora_b"], scale)
    return unflatten(merged), without_lora(config)


def _expert_config(config: ModelConfig, path: str) -> GemmaConfig:
    second = any(part.endswith("_1") for part in path.split("/"))
    if second and config.action_expert is not None:
        return config.action_expert
    return config.paligemma


def without_lora(config: ModelConfig) -> ModelConfig:
    """The same model without adapters."""

    def plain(expert: GemmaConfig | None) -> GemmaConfig | None:
        return expert and dataclasses.replace(expert, lora_attn=None, lora_ffn=None)

    paligemma = dataclasses.replace(config.paligemma, lora_attn=None, lora_ffn=None)
    return dataclasses.replace(config, paligemma=paligemma, action_expert=plain(config.action_expert))
