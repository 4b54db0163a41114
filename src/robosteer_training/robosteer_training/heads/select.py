"""From cached activations to a `HeadSelection`: by k-NN, by chance, and the controls."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_training.files import json_digest
from robosteer_training.heads.cache import ActivationCache
from robosteer_training.heads.knn import DEFAULT_KS, KnnScores, rank_heads, score_heads
from robosteer_training.heads.neighbours import Metric
from robosteer_training.heads.selection import HeadSelection, dead_heads, default_m
from robosteer_training.heads.source import Source

Progress = Callable[[int, int], None]


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
    cache: ActivationCache | Source,
    settings: KnnSettings,
    progress: Progress | None = None,
    *,
    rows: np.ndarray | None = None,
) -> HeadSelection:
    """Score all heads, choose k, take the best m.

    Args:
        cache: activations and actions.
        settings: how.
        progress: called with (layers done, layers).
        rows: rows of the source to use; None takes the usable ones.

    Raises:
        RobosteerError: the cache lacks the token position; see also `score_heads`.
    """
    source = cache if isinstance(cache, Source) else Source.of(cache)
    found = _knn_scores(source, settings, rows, progress)
    selection = make_selection(source, settings, "knn", found.best_scores, found.heads, rows=rows, found=found)
    if isinstance(cache, ActivationCache) and rows is None:
        selection.provenance["key"] = selection_key(cache, settings)
    return selection


def select_worst(
    source: Source, settings: KnnSettings, progress: Progress | None = None, *, rows: np.ndarray | None = None
) -> HeadSelection:
    """Control: the m heads that predict worst. Scores are k-NN scores with their sign turned, so that low leads."""
    found = _knn_scores(source, settings, rows, progress)
    scores = -found.best_scores
    heads = rank_heads(scores, excluded_heads(source, settings))[: wanted_heads(source, settings)]
    return make_selection(source, settings, "worst", scores, heads, rows=rows, found=found)


def select_all(
    source: Source, settings: KnnSettings, progress: Progress | None = None, *, rows: np.ndarray | None = None
) -> HeadSelection:
    """Every head (without the dead ones, if they are excluded), ranked by k-NN."""
    if settings.m is not None:
        raise RobosteerError(f"--m: found {settings.m}, expected none with all heads; leave it out")
    found = _knn_scores(source, settings, rows, progress)
    heads = rank_heads(found.best_scores, excluded_heads(source, settings))
    return make_selection(source, settings, "all", found.best_scores, heads, rows=rows, found=found)


def select_random(
    source: Source, settings: KnnSettings, seed: int = 0, *, rows: np.ndarray | None = None
) -> HeadSelection:
    """Control: m heads by chance. The scores are the random numbers that decided."""
    gemma = source.config.paligemma
    scores = np.random.default_rng([seed, 2]).random((gemma.depth, gemma.num_heads))
    heads = rank_heads(scores, excluded_heads(source, settings))[: wanted_heads(source, settings)]
    return make_selection(source, settings, "random", scores, heads, rows=rows, chosen={"seed": seed})


def excluded_heads(source: Source, settings: KnnSettings) -> list[tuple[int, int]]:
    """Heads that may not be chosen."""
    return dead_heads(source.config) if settings.exclude_dead_heads else []


def wanted_heads(source: Source, settings: KnnSettings) -> int:
    """How many heads to choose.

    Raises:
        RobosteerError: more than there are.
    """
    m = default_m(source.config) if settings.m is None else settings.m
    gemma = source.config.paligemma
    available = gemma.depth * gemma.num_heads - len(excluded_heads(source, settings))
    if not 0 < m <= available:
        raise RobosteerError(f"m: found {m}, expected 1 ... {available} heads")
    return m


def make_selection(
    source: Source,
    settings: KnnSettings,
    method: str,
    scores: np.ndarray,
    heads: Sequence[tuple[int, int]],
    *,
    rows: np.ndarray | None,
    found: KnnScores | None = None,
    chosen: dict[str, Any] | None = None,
    details: dict[str, Any] | None = None,
) -> HeadSelection:
    """A selection with everything that led to it.

    Args:
        source: activations.
        settings: how.
        method: name.
        scores: (L, N), lower is better.
        heads: best first.
        rows: that were used; None for the usable ones.
        found: of k-NN.
        chosen: settings of the method itself.
        details: what the method found besides.
    """
    rows = source.rows if rows is None else rows
    recorded: dict[str, Any] = dataclasses.asdict(settings) | source.caches[0].meta["settings"]
    recorded |= {"actions": "normalised with the checkpoint's statistics"}
    if found is not None:
        recorded |= {"ks": list(found.ks), "dropped_ks": list(found.dropped_ks)}
    recorded |= chosen or {}
    key = json_digest([method, source.key, recorded, rows.tolist()])
    return HeadSelection(
        method=method,
        scores=scores,
        heads=list(heads),
        k=None if found is None else found.best_k,
        settings=recorded,
        k_search=[]
        if found is None
        else [{"k": k, "subset_mse": float(e)} for k, e in zip(found.ks, found.subset_mse, strict=True)],
        provenance={"key": key, **source.provenance(rows)},
        details=details or {},
    )


def _knn_scores(source: Source, settings: KnnSettings, rows: np.ndarray | None, progress: Progress | None) -> KnnScores:
    return score_heads(
        source.at(settings.position),
        source.actions,
        source.episode_index,
        m=wanted_heads(source, settings),
        ks=settings.ks,
        metric=settings.metric,
        excluded=excluded_heads(source, settings),
        rows=source.rows if rows is None else rows,
        progress=progress,
    )
