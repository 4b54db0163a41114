"""Statistics of episodes in LeRobot's form."""

from __future__ import annotations

from typing import Any

import numpy as np

IMAGE_SAMPLES = 100  # per episode and camera
QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}

Stats = dict[str, dict[str, np.ndarray]]


def vector_stats(values: np.ndarray) -> dict[str, np.ndarray]:
    """Of (n, d) or (n,) numbers: arrays (d,), and the count (1,)."""
    table = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    return {**_moments(table), "count": np.array([len(table)])}


def image_stats(images: Any) -> dict[str, np.ndarray]:
    """Of (n, h, w, 3) uint8 images, at most 100 of them: arrays (3, 1, 1) in [0, 1], and the count (1,)."""
    rows = np.unique(np.linspace(0, len(images) - 1, min(len(images), IMAGE_SAMPLES)).round().astype(int))
    pixels = np.asarray(images[rows]).reshape(-1, 3) / 255.0
    moments = {name: value.reshape(3, 1, 1) for name, value in _moments(pixels).items()}
    return {**moments, "count": np.array([len(rows)])}


def _moments(table: np.ndarray) -> dict[str, np.ndarray]:
    return {"min": table.min(0), "max": table.max(0), "mean": table.mean(0), "std": table.std(0)}


def aggregate(parts: list[Stats]) -> Stats:
    """Statistics of all episodes from those of each."""
    total: Stats = {}
    for name in parts[0]:
        entries = [part[name] for part in parts]
        counts = np.array([float(entry["count"][0]) for entry in entries])
        weights = (counts / counts.sum()).reshape(-1, *[1] * entries[0]["mean"].ndim)
        means, deviations = (np.stack([entry[key] for entry in entries]) for key in ("mean", "std"))
        mean = (weights * means).sum(0)
        variance = (weights * (deviations**2 + (means - mean) ** 2)).sum(0)
        total[name] = {
            "min": np.min([entry["min"] for entry in entries], axis=0),
            "max": np.max([entry["max"] for entry in entries], axis=0),
            "mean": mean,
            "std": np.sqrt(variance),
            "count": np.array([int(counts.sum())]),
        }
    return total


def quantiles(values: np.ndarray) -> dict[str, np.ndarray]:
    """Of (n, d) or (n,) numbers over the whole dataset, as lerobot 0.4 adds them."""
    table = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    return {name: np.quantile(table, share, axis=0) for name, share in QUANTILES.items()}


def as_json(stats: Stats) -> dict[str, dict[str, Any]]:
    """Nested lists."""
    return {name: {key: value.tolist() for key, value in entry.items()} for name, entry in stats.items()}
