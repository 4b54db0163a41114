"""Normalisation of states and actions: statistics, their streaming computation, and openpi's JSON file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from robosteer_model.errors import ModelError
from robosteer_model.jsonio import parse_json, read_json

# openpi's guard against division by zero, part of the numbers that a checkpoint was trained on.
EPSILON = 1e-6
NUM_BINS = 5000


@dataclasses.dataclass(frozen=True)
class NormStats:
    """Statistics of one vector quantity, in its own units, per dimension.

    Attributes:
        mean: (D,).
        std: (D,).
        q01: (D,) first percentile, or None when only z-score is possible.
        q99: (D,) 99th percentile, or None.
    """

    mean: np.ndarray
    std: np.ndarray
    q01: np.ndarray | None = None
    q99: np.ndarray | None = None

    def __post_init__(self) -> None:
        if (self.q01 is None) != (self.q99 is None):
            raise ModelError("norm_stats: found one of q01 and q99, expected both or neither")
        size = np.shape(self.mean)
        for name in ("mean", "std", "q01", "q99"):
            value = getattr(self, name)
            if value is None:
                continue
            if np.ndim(value) != 1 or np.shape(value) != size:
                raise ModelError(f"norm_stats.{name}: found shape {np.shape(value)}, expected {size} as mean")
            if not np.all(np.isfinite(value)):
                raise ModelError(f"norm_stats.{name}: found NaN or infinity, expected finite numbers; recompute them")
        if np.any(np.asarray(self.std) < 0):
            raise ModelError("norm_stats.std: found a negative value, expected std >= 0")
        if self.q01 is not None and self.q99 is not None and np.any(self.q01 > self.q99):
            raise ModelError("norm_stats: found q01 > q99, expected q01 <= q99")

    @property
    def size(self) -> int:
        """D, the number of dimensions."""
        return len(self.mean)


def _quantiles(stats: NormStats) -> tuple[np.ndarray, np.ndarray]:
    if stats.q01 is None or stats.q99 is None:
        raise ModelError("norm_stats: found no q01/q99, expected quantiles for pi05 and pi0_fast; recompute the file")
    return stats.q01, stats.q99


def _check_width(x: np.ndarray, stats: NormStats, what: str) -> None:
    if x.ndim == 0 or x.shape[-1] > stats.size:
        raise ModelError(f"{what}: found shape {x.shape}, expected a last axis of at most {stats.size} (norm_stats)")


def normalize(x: np.ndarray, stats: NormStats, *, quantile: bool) -> np.ndarray:
    """Map physical values to about [-1, 1] (quantile) or to unit variance (z-score).

    Args:
        x: (..., d) with d <= D; the first d entries of the statistics are used.
        stats: the statistics.
        quantile: 2(x - q01)/(q99 - q01) - 1 instead of (x - mean)/std. Nothing is clipped.

    Raises:
        ModelError: when x is wider than the statistics or quantiles are missing.
    """
    _check_width(x, stats, "normalize")
    d = x.shape[-1]
    if quantile:
        low, high = (q[:d] for q in _quantiles(stats))
        return (x - low) / (high - low + EPSILON) * 2.0 - 1.0
    return (x - stats.mean[:d]) / (stats.std[:d] + EPSILON)


def unnormalize(x: np.ndarray, stats: NormStats, *, quantile: bool) -> np.ndarray:
    """Inverse of `normalize`; dimensions beyond the statistics (padding) pass through unchanged.

    Args:
        x: (..., d), any d >= D.
        stats: the statistics.
        quantile: as in `normalize`.
    """
    size = stats.size
    if x.ndim == 0 or x.shape[-1] < size:
        raise ModelError(f"unnormalize: found shape {x.shape}, expected a last axis of at least {size} (norm_stats)")
    if quantile:
        low, high = _quantiles(stats)
        head = (x[..., :size] + 1.0) / 2.0 * (high - low + EPSILON) + low
        return head if x.shape[-1] == size else np.concatenate([head, x[..., size:]], axis=-1)
    extra = x.shape[-1] - size
    # openpi pads with mean 0 and std 1, which multiplies padding by 1 + 1e-6.
    mean = np.pad(stats.mean, (0, extra))
    std = np.pad(stats.std, (0, extra), constant_values=1.0)
    return x * (std + EPSILON) + mean


class RunningStats:
    """Streaming mean, standard deviation and quantiles over batches of vectors.

    Quantiles come from one histogram of `NUM_BINS` bins per dimension that is re-binned when the range grows. Edges are
    evaluated in float64: openpi's numbers come from numpy 1.26, where a float32 minimum widened by 1e-10 is a float64;
    under numpy 2's promotion the widening would vanish and re-binning would count differently (up to 0.6 % of the
    range). A consequence kept on purpose: when the minimum did not move, re-binning drops the lowest old bin.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean = np.empty(0)
        self._mean_of_squares = np.empty(0)
        self._min = np.empty(0)
        self._max = np.empty(0)
        self._histograms: list[np.ndarray] = []
        self._edges: list[np.ndarray] = []

    @property
    def count(self) -> int:
        """Vectors seen so far."""
        return self._count

    def update(self, batch: np.ndarray) -> None:
        """Take in vectors.

        Args:
            batch: (..., D) floating point; every leading axis counts as samples.

        Raises:
            ModelError: for a changed D, an empty batch or non-finite values.
        """
        batch = np.asarray(batch)
        if batch.ndim < 1 or batch.size == 0 or batch.dtype.kind != "f":
            raise ModelError(f"running stats: found {batch.dtype} {batch.shape}, expected floats of shape (..., D)")
        vectors = batch.reshape(-1, batch.shape[-1])
        if not np.all(np.isfinite(vectors)):
            raise ModelError("running stats: found NaN or infinity in the data, expected finite values; clean the data")
        low, high = np.min(vectors, axis=0), np.max(vectors, axis=0)
        if self._count == 0:
            self._start(vectors, low, high)
        else:
            self._check_same_size(vectors)
            self._grow(low, high)
        self._count += len(vectors)
        weight = len(vectors) / self._count
        self._mean = self._mean + (np.mean(vectors, axis=0) - self._mean) * weight
        self._mean_of_squares = self._mean_of_squares + (np.mean(vectors**2, axis=0) - self._mean_of_squares) * weight
        for i, edges in enumerate(self._edges):
            self._histograms[i] += np.histogram(vectors[:, i], bins=edges)[0]

    def _check_same_size(self, vectors: np.ndarray) -> None:
        if vectors.shape[1] != self._mean.size:
            raise ModelError(f"running stats: found vectors of size {vectors.shape[1]}, expected {self._mean.size}")

    def _start(self, vectors: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        self._mean = np.mean(vectors, axis=0)
        self._mean_of_squares = np.mean(vectors**2, axis=0)
        self._min, self._max = low, high
        self._histograms = [np.zeros(NUM_BINS) for _ in low]
        self._edges = [
            np.linspace(float(a) - 1e-10, float(b) + 1e-10, NUM_BINS + 1) for a, b in zip(low, high, strict=True)
        ]

    def _grow(self, low: np.ndarray, high: np.ndarray) -> None:
        if not (np.any(low < self._min) or np.any(high > self._max)):
            return
        self._min, self._max = np.minimum(self._min, low), np.maximum(self._max, high)
        for i, old in enumerate(self._edges):
            edges = np.linspace(float(self._min[i]), float(self._max[i]), NUM_BINS + 1)
            self._histograms[i] = np.histogram(old[:-1], bins=edges, weights=self._histograms[i])[0]
            self._edges[i] = edges

    def _quantile(self, q: float) -> np.ndarray:
        target = q * self._count
        values = []
        for histogram, edges in zip(self._histograms, self._edges, strict=True):
            index = np.searchsorted(np.cumsum(histogram), target)
            values.append(edges[index])
        return np.array(values)

    def result(self) -> NormStats:
        """The statistics of everything seen.

        Raises:
            ModelError: with fewer than two vectors.
        """
        if self._count < 2:
            raise ModelError(f"running stats: found {self._count} vectors, expected at least 2; record more data")
        variance = self._mean_of_squares - self._mean**2
        std = np.sqrt(np.maximum(0, variance))
        return NormStats(self._mean, std, self._quantile(0.01), self._quantile(0.99))


def norm_stats_to_json(stats: dict[str, NormStats]) -> str:
    """The text of openpi's `norm_stats.json` (two-space indent, plain lists, null for absent quantiles)."""

    def plain(value: np.ndarray | None) -> list[float] | None:
        return None if value is None else np.asarray(value).tolist()

    body = {
        name: {"mean": plain(s.mean), "std": plain(s.std), "q01": plain(s.q01), "q99": plain(s.q99)}
        for name, s in stats.items()
    }
    return json.dumps({"norm_stats": body}, indent=2)


def _vector(data: Any, where: str) -> np.ndarray:
    if not isinstance(data, list) or not data or not all(type(v) in (int, float) for v in data):
        raise ModelError(f"{where}: found {type(data).__name__}, expected a non-empty list of numbers")
    return np.array(data, dtype=np.float64)


def _stats(data: Any, where: str) -> NormStats:
    known = {"mean", "std", "q01", "q99"}
    if not isinstance(data, dict) or not {"mean", "std"} <= set(data) <= known:
        found = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise ModelError(f"{where}: found {found}, expected mean, std and optionally q01, q99")
    values = {name: _vector(value, f"{where}.{name}") for name, value in data.items() if value is not None}
    try:
        return NormStats(**values)
    except (ModelError, TypeError) as error:
        raise ModelError(f"{where}: {error}") from None


def _from_document(document: Any, what: str) -> dict[str, NormStats]:
    if not isinstance(document, dict) or not isinstance(document.get("norm_stats"), dict):
        raise ModelError(f"{what}: found no 'norm_stats' object, expected openpi's norm_stats.json")
    return {name: _stats(data, f"{what}: {name}") for name, data in document["norm_stats"].items()}


def norm_stats_from_json(text: str | bytes, what: str = "norm_stats.json") -> dict[str, NormStats]:
    """Read openpi's JSON; every field is validated (types, lengths, finite).

    Raises:
        ModelError: naming the field.
    """
    return _from_document(parse_json(text, what), what)


def load_norm_stats(path: Path) -> dict[str, NormStats]:
    """Read a `norm_stats.json` file; see `norm_stats_from_json`."""
    return _from_document(read_json(path), str(path))


def save_norm_stats(path: Path, stats: dict[str, NormStats]) -> None:
    """Write openpi's `norm_stats.json`."""
    path.write_text(norm_stats_to_json(stats))
