"""The frozen weights as a training step reads them: in the compute dtype, without what trains, without what is dead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_model.flow_training import is_of_second_expert, without_dead_layer
from robosteer_model.params import Tree, flatten, unflatten
from robosteer_training.finetune.placement import Placement
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.finetune.spec import AdapterSpec

_STACKED = ("PaliGemma/llm/layers/", "PaliGemma/img/Transformer/encoderblock/")
_LAYERS = "PaliGemma/llm/layers/"


def skips_dead(spec: AdapterSpec, settings: TrainSettings) -> bool:
    """Whether the dead layer is left out: never for FAST, nor where stacks of PaliGemma train whole.

    Those live in the adapter; shortening them in every step would copy them.
    """
    whole = [path for path in spec.dense_paths if path.startswith(_LAYERS) and not is_of_second_expert(path)]
    return settings.skip_dead and spec.config.model_type != "pi0_fast" and not whole


def frozen_leaves(params: Mapping[str, Any], spec: AdapterSpec, settings: TrainSettings) -> dict[str, np.ndarray]:
    """Host arrays (or shapes, if shapes are given) of what a step reads and never changes, by path.

    Args:
        params: the base parameters.
        spec: leaves that it trains whole are left out.
        settings: `bf16_frozen` casts to the compute dtype, `skip_dead` drops the last layer's dead part.
    """
    flat: dict[str, Any] = {p: leaf for p, leaf in flatten(params).items() if p not in spec.dense_paths}
    if any(isinstance(leaf, jax.Array) for leaf in flat.values()):
        flat = {path: np.asarray(leaf) for path, leaf in flat.items()}
    if skips_dead(spec, settings):
        flat = flatten(without_dead_layer(unflatten(flat)))
    dtype = jnp.dtype(spec.config.dtype)
    if not settings.bf16_frozen:
        return flat
    return {path: leaf if leaf.dtype == dtype else leaf.astype(dtype) for path, leaf in flat.items()}


def place_frozen(leaves: Mapping[str, np.ndarray], placement: Placement) -> Tree:
    """Put frozen leaves on the devices."""
    placed = {
        path: placement.put(leaf, placement.weight(leaf.shape, leaf.nbytes, is_stacked(path)))
        for path, leaf in leaves.items()
    }
    return unflatten(placed)


def is_stacked(path: str) -> bool:
    """Whether a leaf's first axis counts layers."""
    return path.startswith(_STACKED)
