"""Sparse changes of a parameter tree: which slices of which leaves, by low-rank factors or by new values.

This is what finetuning a small part of a model leaves behind. Applying it touches the named slices and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from robosteer_model.errors import ModelError
from robosteer_model.params import Tree, flatten, unflatten


@dataclasses.dataclass(frozen=True)
class Delta:
    """A change of one leaf, W[index_i] += scale * a_i @ b_i or W[index_i] = value_i.

    Attributes:
        path: the leaf.
        index: (n, k) int, leading indices of the n changed slices; None changes the leaf as a whole (n = 1).
        a: (n, ..., in, r) float32, or None.
        b: (n, ..., r, out) float32, or None; may have extent 1 where it is shared.
        value: (n, ...) float32, or None.
        scale: factor on the product.
    """

    path: str
    index: np.ndarray | None = None
    a: np.ndarray | None = None
    b: np.ndarray | None = None
    value: np.ndarray | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        if (self.a is None) != (self.b is None) or (self.a is None) == (self.value is None):
            raise ModelError(f"delta of {self.path}: found other arrays, expected a and b, or value")
        if self.index is not None and (self.index.ndim != 2 or len(self.index) != len(self._first)):
            raise ModelError(f"delta of {self.path}: found index {self.index.shape}, expected one row per slice")
        if self.index is not None and (self.index.dtype.kind not in "iu" or (self.index < 0).any()):
            raise ModelError(f"delta of {self.path}: found an odd index, expected whole numbers from 0")

    @property
    def _first(self) -> np.ndarray:
        array = self.a if self.a is not None else self.value
        assert array is not None  # noqa: S101 (checked on construction)
        return array

    def require_finite(self) -> None:
        """Refuse numbers that are none, of an adapter that comes from somewhere.

        Raises:
            ModelError: there are some.
        """
        arrays = [array for array in (self.a, self.b, self.value, np.float64(self.scale)) if array is not None]
        if not all(np.isfinite(array).all() for array in arrays):
            raise ModelError(f"delta of {self.path}: found NaN or infinity, expected finite numbers; train again")

    @property
    def where(self) -> tuple[np.ndarray, ...] | slice:
        """Numpy index of the changed slices."""
        return slice(None) if self.index is None else tuple(self.index.T)

    def slices(self) -> Iterator[tuple[Any, int]]:
        """(index into the leaf, number of the slice)."""
        if self.index is None:
            yield (), 0
            return
        for i, row in enumerate(self.index):
            yield tuple(int(x) for x in row), i

    def change(self, weight: np.ndarray, i: int) -> np.ndarray:
        """The new float32 values of slice i; the product is evaluated in float64 and rounded once."""
        if self.value is not None:
            new = self.value[i]
        else:
            assert self.a is not None  # noqa: S101
            assert self.b is not None  # noqa: S101
            try:
                new = self.a[i].astype(np.float64) @ self.b[i].astype(np.float64)
            except ValueError:
                raise ModelError(
                    f"delta of {self.path}: found factors {self.a[i].shape} and {self.b[i].shape}, expected a product"
                ) from None
        if new.shape != weight.shape:
            raise ModelError(f"delta of {self.path}: found slices {new.shape}, expected {weight.shape}")
        if self.value is None:
            new = (weight.astype(np.float64) + self.scale * new).astype(np.float32)
        return new


def apply_deltas(params: Mapping[str, Any], deltas: Sequence[Delta]) -> Tree:
    """Changed leaves become float32 arrays on the host; all others are the given ones.

    Raises:
        ModelError: for a leaf that is not there, or slices that do not fit it.
    """
    flat = dict(flatten(params))
    for delta in deltas:
        if delta.path not in flat:
            raise ModelError(f"delta of {delta.path}: found no such leaf, expected the base model that it was made for")
        leaf = np.array(flat[delta.path], np.float32)
        for where, i in delta.slices():
            try:
                leaf[where] = delta.change(leaf[where], i)
            except IndexError as error:
                raise ModelError(f"delta of {delta.path}: found index {where}, expected one in {leaf.shape}") from error
        flat[delta.path] = leaf
    return unflatten(flat)


def changed_outside(before: Mapping[str, Any], after: Mapping[str, Any], deltas: Sequence[Delta]) -> list[str]:
    """Paths where a value that no delta names differs between two trees; empty when all is as it was.

    Comparison is by bits (of float32).
    """
    before, after = flatten(before), flatten(after)
    if set(before) != set(after):
        return sorted(set(before) ^ set(after))
    allowed: dict[str, list[Any]] = {}
    for delta in deltas:
        allowed.setdefault(delta.path, []).append(delta.where)
    differing = []
    for path in before:
        if slice(None) in allowed.get(path, []):
            continue
        x, y = (np.asarray(tree[path], np.float32).view(np.uint32) for tree in (before, after))
        unequal = x != y
        for where in allowed.get(path, []):
            unequal[where] = False
        if unequal.any():
            differing.append(path)
    return differing


@dataclasses.dataclass(frozen=True)
class Rounding:
    """What is left of a finetuning when all parameters are rounded to bfloat16, as openpi's policy loader does.

    Attributes:
        changed: number of values that finetuning changed.
        lost: share of them that are the base's again after rounding.
        relative_error: norm of (rounded change - change) over the norm of the change.
    """

    changed: int
    lost: float
    relative_error: float


def bfloat16_rounding(before: Mapping[str, Any], after: Mapping[str, Any], deltas: Sequence[Delta]) -> Rounding:
    """Compare bf16(after) - bf16(before) with after - before over the leaves of some deltas."""
    before, after = flatten(before), flatten(after)
    changed = lost = 0
    error = size = 0.0
    for path in sorted({delta.path for delta in deltas}):
        # Leaf by leaf and layer by layer: a full-size FFN in float64 would not fit.
        for old, new in zip(np.asarray(before[path]), np.asarray(after[path]), strict=True):
            old, new = np.asarray(old, np.float32), np.asarray(new, np.float32)
            wanted = new - old
            rounded = [x.astype(ml_dtypes.bfloat16).astype(np.float32) for x in (old, new)]
            kept = rounded[1] - rounded[0]
            moved = wanted != 0
            changed += int(moved.sum())
            lost += int((moved & (kept == 0)).sum())
            error += float(np.square(kept - wanted, dtype=np.float64).sum())
            size += float(np.square(wanted, dtype=np.float64).sum())
    return Rounding(changed, lost / max(changed, 1), (error / size) ** 0.5 if size else 0.0)
