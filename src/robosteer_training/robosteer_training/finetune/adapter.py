"""The trainable tree: how it starts, how it joins the frozen weights, how it is merged for good.

Strictly per head. openpi's output-projection LoRA is (sum_n x_n A_n)(sum_m B_m): training one head's factors changes
all heads of the layer. Here each selected head owns a block of the rank axis. With A_n non-zero only in head n's block
and B_n likewise, openpi's own formula gives sum_n x_n A_n B_n, so the same forward pass serves, and the merge touches
the selected slices only.

Start. openpi draws both factors from N(0, 0.01), which perturbs the base model at step 0 and leaves a residue in slices
that are never trained. The steering recipes keep 0.01 for A and start B at zero (`Recipe.b_stddev`): step 0 *is* the
base model, bit for bit.

All scales are one: where a rank differs from openpi's, alpha follows it.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_model.config import LoraConfig, ModelConfig
from robosteer_model.lora import merge_lora
from robosteer_model.params import flatten, unflatten
from robosteer_training.finetune.spec import ATTN, GATING_PATH, LINEAR_PATH, O_PATH, Q_PATH, AdapterSpec

Tree = dict[str, Any]
Adapter = dict[str, jax.Array]


def init_adapter(spec: AdapterSpec, params: Tree, seed: int) -> Adapter:
    """Fresh float32 trainable leaves by path (see `AdapterSpec.leaves`); dense leaves are copies of the base's.

    Drawn on the host, so that every backend starts from the same bits.

    Args:
        spec: what is trained.
        params: the base parameters.
        seed: each leaf has its own stream, so that adding leaves changes no other.
    """
    base = flatten(params)
    adapter = {}
    for path, leaf in spec.leaves.items():
        if path.startswith("dense/"):
            adapter[path] = jnp.array(base[path.removeprefix("dense/")], jnp.float32, copy=True)
            continue
        stddev = spec.recipe.b_stddev if path.endswith("b") else spec.recipe.a_stddev
        stream = np.random.default_rng([seed, zlib.crc32(path.encode())])
        adapter[path] = jnp.asarray(np.float32(stddev) * stream.standard_normal(leaf.shape, np.float32))
    return adapter


def attached_config(spec: AdapterSpec) -> ModelConfig:
    """The config under which `attach`'s tree is run: the scale of every LoRA path is one."""
    recipe, config = spec.recipe, spec.config
    if recipe.stock_lora:
        return spec.stock_lora_config
    attn = LoraConfig(16, 16.0) if recipe.q_rank or recipe.o_rank else None
    ffn = LoraConfig(recipe.ffn_rank, float(recipe.ffn_rank)) if recipe.ffn_rank else None
    return dataclasses.replace(config, paligemma=dataclasses.replace(config.paligemma, lora_attn=attn, lora_ffn=ffn))


def attach(params: Tree, adapter: Mapping[str, jax.Array], spec: AdapterSpec) -> Tree:
    """Join frozen weights and adapter without merging: gradients reach the low-rank factors only.

    Differentiable in `adapter`. Run the result under `attached_config(spec)`.

    Args:
        params: base parameters, untouched.
        adapter: trainable leaves.
        spec: what is trained.
    """
    flat = dict(flatten(params))
    flat |= {path.removeprefix("dense/"): leaf for path, leaf in adapter.items() if path.startswith("dense/")}
    flat |= {path.removeprefix("lora/"): leaf for path, leaf in adapter.items() if path.startswith("lora/")}
    flat |= _head_leaves(adapter, spec) | _ffn_leaves(adapter, spec)
    return unflatten(flat)


def _head_leaves(adapter: Mapping[str, jax.Array], spec: AdapterSpec) -> Tree:
    gemma = spec.config.paligemma
    layers, heads = spec.head_index
    grid = (gemma.depth, gemma.num_heads)
    leaves: Tree = {}
    if spec.recipe.q_rank:
        a, b = adapter["head_q/a"], adapter["head_q/b"]
        leaves[f"{ATTN}/q_einsum/lora_a"] = jnp.zeros((*grid, *a.shape[1:])).at[layers, heads].set(a)
        leaves[f"{ATTN}/q_einsum/lora_b"] = jnp.zeros((*grid, *b.shape[1:])).at[layers, heads].set(b)
    if spec.recipe.o_rank:
        a, b = adapter["head_o/a"], adapter["head_o/b"]
        rank = spec.recipe.o_rank
        # Position of each selected head among those of its layer: its block of the rank axis.
        block = np.array([int((layers[:i] == layer).sum()) for i, layer in enumerate(layers)], np.int32)
        blocks = int(block.max()) + 1
        wide_a = jnp.zeros((*grid, blocks, a.shape[1], rank)).at[layers, heads, block].set(a)
        wide_b = jnp.zeros((*grid, blocks, rank, b.shape[2])).at[layers, heads, block].set(b)
        leaves[f"{ATTN}/attn_vec_einsum/lora_a"] = wide_a.swapaxes(2, 3).reshape(*grid, a.shape[1], blocks * rank)
        leaves[f"{ATTN}/attn_vec_einsum/lora_b"] = wide_b.reshape(*grid, blocks * rank, b.shape[2])
    return leaves


def _ffn_leaves(adapter: Mapping[str, jax.Array], spec: AdapterSpec) -> Tree:
    if not spec.recipe.ffn_rank:
        return {}
    leaves: Tree = {}
    for name, path in (("gating", GATING_PATH), ("linear", LINEAR_PATH)):
        for factor in ("a", "b"):
            leaf = adapter[f"ffn/{name}_{factor}"]
            if len(spec.ffn_layers) < spec.config.paligemma.depth:
                leaf = jnp.zeros((spec.config.paligemma.depth, *leaf.shape[1:])).at[spec.ffn_layers].set(leaf)
            leaves[f"{path}_lora_{factor}"] = leaf
    return leaves


def merge(params: Tree, adapter: Mapping[str, Any], spec: AdapterSpec) -> Tree:
    """Fold the adapter into the base weights, on the host, rounding once to float32.

    Slices outside the trainable set are the base's own values; leaves outside it are the base's own arrays.

    Args:
        params: base parameters.
        adapter: trained leaves.
        spec: what was trained.
    """
    if spec.recipe.stock_lora:
        return merge_lora(attach(params, adapter, spec), attached_config(spec))[0]
    flat = dict(flatten(params))
    leaves = {path: np.asarray(leaf, np.float32) for path, leaf in adapter.items()}
    for path in spec.dense_paths:
        flat[path] = leaves[f"dense/{path}"]
    for name, path in (("head_q", Q_PATH), ("head_o", O_PATH)):
        if f"{name}/a" in leaves:
            merged = np.array(flat[path], np.float32)
            for i, (layer, head) in enumerate(spec.heads):
                merged[layer, head] = _add(merged[layer, head], leaves[f"{name}/a"][i], leaves[f"{name}/b"][i])
            flat[path] = merged
    for name, path in (("gating", GATING_PATH), ("linear", LINEAR_PATH)):
        if f"ffn/{name}_a" in leaves:
            merged = np.array(flat[path], np.float32)
            for i, layer in enumerate(spec.ffn_layers):
                merged[layer] = _add(merged[layer], leaves[f"ffn/{name}_a"][i], leaves[f"ffn/{name}_b"][i])
            flat[path] = merged
    return unflatten(flat)


def _add(weight: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (weight.astype(np.float64) + a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)


def changed_outside(base: Tree, merged: Tree, spec: AdapterSpec) -> list[str]:
    """Paths where a value outside the trainable set differs between two trees; empty when all is as it was.

    A selected slice may differ, a slice of another head or layer may not. Comparison is by bits (of float32).
    """
    before, after = flatten(base), flatten(merged)
    if set(before) != set(after):
        return sorted(set(before) ^ set(after))
    trainable = dict.fromkeys(spec.dense_paths)
    if spec.recipe.stock_lora:
        trainable |= dict.fromkeys(_stock_targets(spec))
    heads, ffn = spec.head_index, (spec.ffn_layers,)
    slices = {Q_PATH: heads if spec.recipe.q_rank else None, O_PATH: heads if spec.recipe.o_rank else None}
    slices |= dict.fromkeys((GATING_PATH, LINEAR_PATH), ffn if spec.recipe.ffn_rank else None)
    differing = []
    for path in before:
        if path in trainable:
            continue
        x, y = (np.asarray(tree[path], np.float32).view(np.uint32) for tree in (before, after))
        unequal = x != y
        if slices.get(path) is not None:
            unequal[slices[path]] = False
        if unequal.any():
            differing.append(path)
    return differing


def _stock_targets(spec: AdapterSpec) -> list[str]:
    lora = [p.removeprefix("lora/") for p in spec.leaves if p.startswith("lora/") and p.endswith("lora_a")]
    return [p.removesuffix("lora_a") + "w" if p.endswith("/lora_a") else p.removesuffix("_lora_a") for p in lora]
