"""Parameter trees: openpi's paths and shapes, its initialisers, and flat views.

A tree is a nested dict of arrays. `/`-joined paths are openpi's (`PaliGemma/llm/layers/attn/q_einsum/w`).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_model.config import ModelConfig
from robosteer_model.errors import ModelError
from robosteer_model.param_specs import param_specs

Tree = dict[str, Any]


def param_shapes(config: ModelConfig) -> Tree:
    """The tree of `jax.ShapeDtypeStruct` (float32) that a fresh model of this config has."""
    return unflatten(
        {path: jax.ShapeDtypeStruct(spec.shape, jnp.float32) for path, spec in param_specs(config).items()}
    )


def init_params(config: ModelConfig, key: jax.Array) -> Tree:
    """Draw fresh float32 parameters with openpi's initial distributions (not openpi's random stream).

    A fresh pi0 model is blind on purpose: the SigLIP head and adaRMS gates start at zero. Drawn on the host, so that
    nothing compiles.

    Args:
        config: the model.
        key: a `jax.random.key`; each leaf mixes its own path in, so adding leaves changes no other.
    """
    seed = np.asarray(jax.random.key_data(key)).tolist()
    return unflatten(
        {
            path: jnp.asarray(spec.draw(np.random.default_rng([*seed, zlib.crc32(path.encode())])))
            for path, spec in param_specs(config).items()
        }
    )


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a/b/c": leaf}` in sorted path order; `unflatten` is the exact inverse."""
    flat: dict[str, Any] = {}

    def visit(node: Mapping[str, Any], prefix: str) -> None:
        for name in sorted(node):
            path = f"{prefix}{name}"
            if isinstance(node[name], Mapping):
                visit(node[name], f"{path}/")
            else:
                flat[path] = node[name]

    visit(tree, "")
    return flat


def unflatten(flat: Mapping[str, Any]) -> Tree:
    """The nested dict of a `{"a/b/c": leaf}` mapping.

    Raises:
        ModelError: when one path is both a leaf and a folder of leaves.
    """
    tree: Tree = {}
    for path in sorted(flat):
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
            if not isinstance(node, dict):
                raise ModelError(f"{path}: found a leaf at {folder!r}, expected a folder")
        node[name] = flat[path]
    return tree


def split(tree: Mapping[str, Any], belongs: Callable[[str], bool]) -> tuple[Tree, Tree]:
    """Two trees, by path: those for which `belongs` holds, and the rest. `merge` is the exact inverse."""
    flat = flatten(tree)
    chosen = {path: leaf for path, leaf in flat.items() if belongs(path)}
    return unflatten(chosen), unflatten({path: leaf for path, leaf in flat.items() if path not in chosen})


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> Tree:
    """One tree with the leaves of two disjoint ones.

    Raises:
        ModelError: when both hold the same leaf.
    """
    one, two = flatten(first), flatten(second)
    if both := sorted(set(one) & set(two)):
        raise ModelError(f"{both[0]}: found in both trees, expected in one")
    return unflatten(one | two)


def count(tree: Mapping[str, Any]) -> int:
    """Number of parameters of a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in flatten(tree).values())
