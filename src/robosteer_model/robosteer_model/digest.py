"""Digests of arrays: what says that two checkpoints or data sets hold the same numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from robosteer_model.norm_stats import norm_stats_to_json
from robosteer_model.params import flatten

if TYPE_CHECKING:
    from robosteer_model.checkpoint import Checkpoint


def array_digest(array: Any) -> str:
    """sha256 over shape, dtype and bytes."""
    array = np.asarray(array)
    digest = hashlib.sha256(f"{array.shape}{array.dtype}".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def arrays_digest(arrays: Mapping[str, Any]) -> str:
    """sha256 over named arrays, independent of their order."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name}={array_digest(arrays[name])}\n".encode())
    return digest.hexdigest()


def params_digest(params: Mapping[str, Any]) -> str:
    """sha256 over all leaves of a parameter tree: path, shape, dtype and bytes."""
    return arrays_digest(flatten(params))


def inputs_digest(checkpoint: Checkpoint) -> str:
    """sha256 over what decides beside the parameters how a policy acts: config, statistics, tokenizer, data layout."""
    stats = None if checkpoint.norm_stats is None else norm_stats_to_json(dict(checkpoint.norm_stats))
    tokenizer = None if checkpoint.tokenizer is None else hashlib.sha256(checkpoint.tokenizer).hexdigest()
    told = [checkpoint.config.to_json(), stats, tokenizer, checkpoint.data_layout]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
