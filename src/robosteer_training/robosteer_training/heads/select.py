"""From a cache to a `HeadSelection` by k-NN regression."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_training.files import json_digest
from robosteer_training.heads.cache import ActivationCache
from robosteer_training.heads.knn import DEFAULT_KS, score_heads
from robosteer_training.heads.neighbours import Metric
from robosteer_training.heads.selection import HeadSelection, dead_heads, default_m


@dataclasses.dataclass(frozen=True)
class KnnSettings:
    """How heads are chosen.

    Attributes:
        ks: numbers of neighbours to try.
        m: number of heads; None takes the paper's 20 of 144 in proportion.
        metric: "cosine" or "euclidean".
        position: token position whose vectors are compared.
        exclude_dead_heads: leave out heads that receive no gradient (the last layer's, in pi0 and pi0.5).
    """

    ks: tuple[int, ...] = DEFAULT_KS
    m: int | None = None
    metric: Metric = "cosine"
    position: str = "suffix.first"
    exclude_dead_heads: bool = False


def selection_key(cache: ActivationCache, settings: KnnSettings) -> str:
    """Identifies a selection: equal keys give equal heads."""
    return json_digest([cache.meta["key"], dataclasses.asdict(settings)])


def select_by_knn(
    cache: ActivationCache, settings: KnnSettings, progress: Callable[[int, int], None] | None = None
) -> HeadSelection:
    """Score all heads, choose k, take the best m.

    Args:
        cache: activations and actions.
        settings: how.
        progress: called with (layers done, layers).

    Raises:
        RobosteerError: the cache lacks the token position; see also `score_heads`.
    """
    config = cache.config
    if settings.position not in cache.arrays:
        raise RobosteerError(f"position: found {sorted(cache.arrays)} in the cache, expected {settings.position}")
    excluded = dead_heads(config) if settings.exclude_dead_heads else []
    found = score_heads(
        cache.arrays[settings.position],
        cache.actions,
        cache.episode_index,
        m=default_m(config) if settings.m is None else settings.m,
        ks=settings.ks,
        metric=settings.metric,
        excluded=excluded,
        rows=np.flatnonzero(cache.usable),
        progress=progress,
    )
    recorded: dict[str, Any] = dataclasses.asdict(settings) | cache.meta["settings"]
    recorded |= {
        "ks": list(found.ks),
        "dropped_ks": list(found.dropped_ks),
        "actions": "normalised with the checkpoint's statistics",
    }
    return HeadSelection(
        method="knn",
        scores=found.best_scores,
        heads=found.heads,
        k=found.best_k,
        settings=recorded,
        k_search=[{"k": k, "subset_mse": float(e)} for k, e in zip(found.ks, found.subset_mse, strict=True)],
        provenance={
            "key": selection_key(cache, settings),
            "model_type": config.model_type,
            "checkpoint_digest": cache.meta["checkpoint_digest"],
            "dataset_digest": cache.meta["dataset_digest"],
            "frames": int(cache.usable.sum()),
            "episodes": len(np.unique(cache.episode_index)),
        },
    )
