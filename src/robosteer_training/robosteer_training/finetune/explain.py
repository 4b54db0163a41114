"""What a recipe trains, module by module, counted from the adapter itself; needs shapes only."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from robosteer_model.config import ModelConfig
from robosteer_training.finetune.recipes import Recipe
from robosteer_training.finetune.spec import AdapterSpec, spread_heads

MIB_PER_PARAMETER = 4 / 2**20

_MODULES = (
    ("vision encoder (SigLIP)", r"PaliGemma/img/.*"),
    ("token embedding", r"PaliGemma/llm/embedder/.*"),
    ("PaliGemma queries", r".*/attn/q_einsum/.*"),
    ("PaliGemma keys and values", r".*/attn/kv_einsum/.*"),
    ("PaliGemma joint q, k, v", r".*/attn/qkv_einsum/.*"),
    ("PaliGemma outputs", r".*/attn/attn_vec_einsum/.*"),
    ("PaliGemma FFN", r".*/layers/mlp/.*"),
    ("PaliGemma norms", r"PaliGemma/llm/.*norm/.*"),
    ("expert queries", r".*/attn/q_einsum_1/.*"),
    ("expert keys and values", r".*/attn/kv_einsum_1/.*"),
    ("expert joint q, k, v", r".*/attn/qkv_einsum_1/.*"),
    ("expert outputs", r".*/attn/attn_vec_einsum_1/.*"),
    ("expert FFN", r".*/layers/mlp_1/.*"),
    ("expert norms", r"PaliGemma/llm/.*norm_1/.*"),
    ("action in and out", r"action_(in|out)_proj/.*"),
    ("state projection", r"state_proj/.*"),
    ("time MLP", r"(action_)?time_mlp_(in|out)/.*"),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One module.

    Attributes:
        module: its name.
        parameters: how many the base model has.
        trainable: how many are trained (LoRA factors, or the whole leaves).
        how: "frozen", "whole" or the LoRA's extent.
    """

    module: str
    parameters: int
    trainable: int
    how: str


def parameter_table(spec: AdapterSpec) -> list[Row]:
    """Rows for the modules that the model has; trainable counts add up to `spec.num_parameters`."""
    base, trainable = dict.fromkeys(_names(), 0), dict.fromkeys(_names(), 0)
    ways: dict[str, str] = {}
    for path, leaf in spec.base_shapes.items():
        base[_module_of(path)] += int(np.prod(leaf.shape))
    for path, leaf in spec.leaves.items():
        name, way = _target(path, spec)
        trainable[name] += int(np.prod(leaf.shape))
        ways[name] = way
    return [Row(n, base[n], trainable[n], ways.get(n, "frozen")) for n in _names() if base[n] or trainable[n]]


def _names() -> list[str]:
    return [name for name, _ in _MODULES]


def _module_of(path: str) -> str:
    for name, pattern in _MODULES:
        if re.fullmatch(pattern, path):
            return name
    raise ValueError(f"no module for parameter {path}")


def _target(path: str, spec: AdapterSpec) -> tuple[str, str]:
    kind, _, rest = path.partition("/")
    if kind == "dense":
        return _module_of(rest), "whole"
    if kind == "lora":
        stem = rest.removesuffix("lora_a").removesuffix("lora_b").removesuffix("_")
        rank = spec.leaves[path.removesuffix("b").removesuffix("a") + "a"].shape[-1]
        return _module_of(stem.removesuffix("/") + "/"), f"LoRA r={rank}"
    stream = next(s for s in reversed(spec.streams) if kind.endswith(s.suffix))
    name = kind.removesuffix(stream.suffix)
    target = {"q": stream.q, "o": stream.o, "gating": stream.gating, "linear": stream.linear}[name.split("_")[1]]
    extent = f"{len(spec.ffn_layers)} layers" if name.startswith("ffn") else f"{len(spec.heads)} heads"
    if name.startswith("whole"):
        return _module_of(target), f"whole, {extent}"
    return _module_of(target), f"LoRA r={spec.leaves[f'{kind}/a'].shape[-1]}, {extent}"


def explain(config: ModelConfig, recipe: Recipe, m: int, heads: Sequence[tuple[int, int]] = ()) -> dict[str, Any]:
    """The recipe as JSON: totals, table, and on which heads it was counted.

    Args:
        config: the model.
        recipe: the recipe.
        m: number of heads, when none are given; they are then spread over the layers. 0 for a recipe without heads.
        heads: the selected heads, if known.
    """
    spec = AdapterSpec(config, recipe, tuple(heads) or (spread_heads(config, m) if m else ()))
    rows = parameter_table(spec)
    total = sum(row.parameters for row in rows)
    return {
        "recipe": recipe.name,
        "summary": recipe.summary,
        "model_type": config.model_type,
        "heads": len(spec.heads),
        "heads_are": "selected" if heads else ("spread over the layers, for counting" if spec.heads else "not used"),
        "trainable_parameters": spec.num_parameters,
        "trainable_mib": round(spec.num_parameters * MIB_PER_PARAMETER, 3),
        "total_parameters": total,
        "trainable_percent": round(100 * spec.num_parameters / total, 4),
        "table": [dataclasses.asdict(row) | {"trainable_mib": row.trainable * MIB_PER_PARAMETER} for row in rows],
    }
