"""Checkpoints without adapters: LoRA folded into the weights in float32, loadable with stock configs."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp

from robosteer_model.checkpoint import load_checkpoint, save_checkpoint
from robosteer_model.config import ModelConfig
from robosteer_model.digest import params_digest
from robosteer_model.errors import ModelError
from robosteer_model.lora import merge_lora
from robosteer_model.params import flatten


def merge_checkpoint(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    config: ModelConfig | str | None = None,
    dtype: Literal["float32", "bfloat16"] | None = None,
) -> Path:
    """Write a merged copy of a checkpoint with LoRA leaves; statistics, tokenizer and provenance are kept.

    Args:
        source: the checkpoint.
        target: directory to create.
        config: see `load_checkpoint`.
        dtype: of the written leaves; None keeps stored dtypes, and float32 for merged weights. In bfloat16 a change
            smaller than about 2^-9 of its weight is lost.

    Returns:
        The absolute path of the written checkpoint.

    Raises:
        ModelError: when there is nothing to merge, or `target` exists.
    """
    checkpoint = load_checkpoint(source, config=config)
    if not any("lora" in path for path in flatten(checkpoint.params)):
        raise ModelError(f"merge {source}: found no LoRA leaves, expected an adapter; the checkpoint is merged already")
    params, plain = merge_lora(checkpoint.params, checkpoint.config)
    if dtype is not None:
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params)
    provenance = {**checkpoint.provenance, "merged_from": params_digest(checkpoint.params)}
    return save_checkpoint(target, dataclasses.replace(checkpoint, params=params, config=plain, provenance=provenance))
