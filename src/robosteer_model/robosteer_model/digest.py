"""Digests of arrays: what says that two checkpoints or data sets hold the same numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from robosteer_model.params import flatten


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
