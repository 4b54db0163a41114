"""The trainable tree: how it starts, how it joins the frozen weights, how it is merged for good.

Strictly per head. openpi's output-projection LoRA is (sum_n x_n A_n)(sum_m B_m): training one head's factors changes
all heads of the layer. Here each selected head owns a block of the rank axis. With A_n non-zero only in head n's block
and B_n likewise, openpi's own formula gives sum_n x_n A_n B_n, so the same forward pass serves, and the merge touches
the selected slices only.

Start. openpi draws both factors from N(0, 0.01), which perturbs the base model at step 0 and leaves a residue in slices
that are never trained. The steering recipes keep 0.01 for A and start B at zero (`Recipe.b_stddev`): step 0 *is* the
base model, bit for bit.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from robosteer_model.config import LoraConfig, ModelConfig
from robosteer_model.deltas import Delta, apply_deltas
from robosteer_model.flow_training import without_dead_layer
from robosteer_model.params import Tree, flatten, unflatten
from robosteer_training.finetune.spec import AdapterSpec, StreamPaths

# Trainable leaves by path: `jax.Array` on the devices, numpy on the host.
Adapter = dict[str, Any]


def init_adapter(spec: AdapterSpec, params: Mapping[str, Any], seed: int) -> Adapter:
    """Fresh float32 trainable leaves by path (see `AdapterSpec.leaves`); whole leaves are copies of the base's.

    Drawn on the host, so that every backend starts from the same bits.

    Args:
        spec: what is trained.
        params: the base parameters.
        seed: each leaf has its own stream, so that adding leaves changes no other.
    """
    base = flatten(params)
    adapter = {}
    for path, leaf in spec.leaves.items():
        source = _source_of(path, spec)
        if source is not None:
            whole = np.asarray(base[source])
            adapter[path] = np.array(whole if path.startswith("dense/") else whole[spec.head_index], np.float32)
            continue
        stddev = spec.recipe.b_stddev if path.endswith("b") else spec.recipe.a_stddev
        stream = np.random.default_rng([seed, zlib.crc32(path.encode())])
        adapter[path] = np.float32(stddev) * stream.standard_normal(leaf.shape, np.float32)
    return adapter


def _source_of(path: str, spec: AdapterSpec) -> str | None:
    """The base leaf that a trained leaf replaces, None for low-rank factors."""
    if path.startswith("dense/"):
        return path.removeprefix("dense/")
    for stream in spec.streams:
        for name, source in ((f"whole_q{stream.suffix}", stream.q), (f"whole_o{stream.suffix}", stream.o)):
            if path == name:
                return source
    return None


def attached_config(spec: AdapterSpec) -> ModelConfig:
    """The config under which `attach`'s tree is run."""
    recipe, config = spec.recipe, spec.config
    if recipe.stock_ranks:
        return spec.stock_lora_config
    # Only the ratio of alpha and rank enters the forward pass.
    attn = LoraConfig(16, 16.0 * recipe.scale) if recipe.q_rank or recipe.o_rank else None
    ffn = LoraConfig(recipe.ffn_rank, float(recipe.ffn_rank)) if recipe.ffn_rank else None
    experts = {}
    for stream, field in (("paligemma", "paligemma"), ("expert", "action_expert")):
        if stream in recipe.streams:
            experts[field] = dataclasses.replace(getattr(config, field), lora_attn=attn, lora_ffn=ffn)
    return dataclasses.replace(config, **experts)


def attach(params: Mapping[str, Any], adapter: Mapping[str, Any], spec: AdapterSpec, *, short: bool = False) -> Tree:
    """Join frozen weights and adapter without merging: gradients reach the trainable leaves only.

    Differentiable in `adapter`. Run the result under `attached_config(spec)`.

    Args:
        params: base parameters, untouched; leaves that train whole need not be there.
        adapter: trainable leaves.
        spec: what is trained.
        short: `params` are `without_dead_layer`; so is the result.
    """
    trained: Tree = {}
    for path, leaf in adapter.items():
        kind, _, rest = path.partition("/")
        if kind in ("dense", "lora"):
            trained[rest] = leaf
    for stream in spec.streams:
        trained |= _head_leaves(adapter, spec, stream) | _ffn_leaves(adapter, spec, stream)
    if short:
        trained = flatten(without_dead_layer(unflatten(trained)))
    flat = flatten(params) | trained
    layers, heads = spec.head_index
    for stream in spec.streams:
        for name, path in ((f"whole_q{stream.suffix}", stream.q), (f"whole_o{stream.suffix}", stream.o)):
            if name in adapter:
                there = layers < flat[path].shape[0]
                weight = jnp.asarray(flat[path], jnp.float32)
                flat[path] = weight.at[layers[there], heads[there]].set(adapter[name][there])
    return unflatten(flat)


def _head_leaves(adapter: Mapping[str, Any], spec: AdapterSpec, stream: StreamPaths) -> Tree:
    layers, heads = spec.head_index
    grid = (stream.gemma.depth, stream.gemma.num_heads)
    leaves: Tree = {}
    if spec.recipe.q_rank:
        for factor in ("a", "b"):
            leaf = adapter[f"head_q{stream.suffix}/{factor}"]
            wide = jnp.zeros((*grid, *leaf.shape[1:])).at[layers, heads].set(leaf)
            leaves[f"{stream.q.removesuffix('w')}lora_{factor}"] = wide
    if spec.recipe.o_rank:
        a, b = adapter[f"head_o{stream.suffix}/a"], adapter[f"head_o{stream.suffix}/b"]
        rank = spec.recipe.o_rank
        # Position of each selected head among those of its layer: its block of the rank axis.
        block = np.array([int((layers[:i] == layer).sum()) for i, layer in enumerate(layers)], np.int32)
        blocks = int(block.max()) + 1
        wide_a = jnp.zeros((*grid, blocks, a.shape[1], rank)).at[layers, heads, block].set(a)
        wide_b = jnp.zeros((*grid, blocks, rank, b.shape[2])).at[layers, heads, block].set(b)
        stem = stream.o.removesuffix("w")
        leaves[f"{stem}lora_a"] = wide_a.swapaxes(2, 3).reshape(*grid, a.shape[1], blocks * rank)
        leaves[f"{stem}lora_b"] = wide_b.reshape(*grid, blocks * rank, b.shape[2])
    return leaves


def _ffn_leaves(adapter: Mapping[str, Any], spec: AdapterSpec, stream: StreamPaths) -> Tree:
    if not spec.recipe.ffn_rank:
        return {}
    leaves: Tree = {}
    for name, path in (("gating", stream.gating), ("linear", stream.linear)):
        for factor in ("a", "b"):
            leaf = adapter[f"ffn_{name}{stream.suffix}/{factor}"]
            if len(spec.ffn_layers) < stream.gemma.depth:
                leaf = jnp.zeros((stream.gemma.depth, *leaf.shape[1:])).at[spec.ffn_layers].set(leaf)
            leaves[f"{path}_lora_{factor}"] = leaf
    return leaves


def deltas(adapter: Mapping[str, Any], spec: AdapterSpec) -> list[Delta]:
    """The adapter as changes of the base's leaves, on the host."""
    leaves = {path: np.asarray(leaf, np.float32) for path, leaf in adapter.items()}
    found = [Delta(path, value=leaves[f"dense/{path}"][None]) for path in spec.dense_paths]
    found += list(_stock_deltas(leaves, spec))
    heads = np.array(spec.heads, np.int32).reshape(-1, 2)
    layers = spec.ffn_layers[:, None]
    for stream in spec.streams:
        places = {"head_q": (stream.q, heads), "head_o": (stream.o, heads)}
        places |= {"ffn_gating": (stream.gating, layers), "ffn_linear": (stream.linear, layers)}
        for name, (path, index) in places.items():
            a, b = (leaves.get(f"{name}{stream.suffix}/{factor}") for factor in ("a", "b"))
            if a is not None:
                scale = spec.recipe.scale if name.startswith("head") else 1.0
                found.append(Delta(path, index, a=a, b=b, scale=scale))
        for name, path in ((f"whole_q{stream.suffix}", stream.q), (f"whole_o{stream.suffix}", stream.o)):
            if name in leaves:
                found.append(Delta(path, heads, value=leaves[name]))
    return found


def _stock_deltas(leaves: Mapping[str, np.ndarray], spec: AdapterSpec) -> Iterator[Delta]:
    """Openpi's LoRA leaves, layer by layer; the output projection's B factors are summed over heads, as it does."""
    for path, a in leaves.items():
        if not (path.startswith("lora/") and path.endswith("lora_a")):
            continue
        stem = path.removesuffix("lora_a")
        b = leaves[f"{stem}lora_b"]
        if "attn_vec_einsum" in path:
            b = b.sum(axis=1, keepdims=True)
        target = stem.removeprefix("lora/")
        target = f"{target}w" if target.endswith("/") else target.removesuffix("_")
        yield Delta(target, np.arange(len(a), dtype=np.int32)[:, None], a=a, b=b)


def merge(params: Mapping[str, Any], adapter: Mapping[str, Any], spec: AdapterSpec) -> Tree:
    """Fold the adapter into the base weights, on the host, rounding once to float32.

    Slices outside the trainable set are the base's own values; leaves outside it are the base's own arrays.
    """
    return apply_deltas(params, deltas(adapter, spec))
