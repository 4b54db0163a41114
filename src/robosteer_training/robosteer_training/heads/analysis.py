"""What selections say about each other: spread of scores, stability, overlap, redundancy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_training.heads.knn import knn_problem
from robosteer_training.heads.select import KnnSettings, Progress, select_by_knn
from robosteer_training.heads.selection import HeadSelection
from robosteer_training.heads.source import Source

Heads = Sequence[tuple[int, int]]


def coefficient_of_variation(scores: np.ndarray) -> float:
    """σ / |μ| of all head scores, population σ (the paper's Table 4); 0 for scores that are all 0."""
    mean = abs(float(np.mean(scores)))
    return float(np.std(scores)) / mean if mean > 0 else 0.0


def jaccard(a: Heads, b: Heads) -> float:
    """|A ∩ B| / |A ∪ B|: what the paper's figures 6 and 7 call overlap; 1 for two empty sets."""
    together = set(a) | set(b)
    return len(set(a) & set(b)) / len(together) if together else 1.0


def jaccard_matrix(sets: Sequence[Heads]) -> np.ndarray:
    """(S, S) Jaccard indices."""
    return np.array([[jaccard(a, b) for b in sets] for a in sets])


def overlap(selections: Mapping[str, HeadSelection]) -> dict[str, Any]:
    """Shared heads of selections of one model (the paper's Figure 7).

    Raises:
        RobosteerError: one selection only, or selections of different models.
    """
    if len(selections) < 2:
        raise RobosteerError(
            f"--selections: found {len(selections)}, expected at least two files to compare: --selections A.json B.json"
        )
    names, values = list(selections), list(selections.values())
    for name, selection in selections.items():
        theirs, ours = selection.provenance.get("checkpoint_digest"), values[0].provenance.get("checkpoint_digest")
        if selection.scores.shape != values[0].scores.shape or theirs != ours:
            raise RobosteerError(
                f"{name}: found a selection of another model ({str(theirs)[:12]}), expected that of {names[0]} "
                f"({str(ours)[:12]}); select all of them on one checkpoint"
            )
    scores = np.stack([s.ranks.ravel().astype(float) for s in values])
    return {
        "names": names,
        "m": [s.m for s in values],
        "jaccard": jaccard_matrix([s.heads for s in values]).tolist(),
        # Of ranks: Spearman's.
        "rank_correlation": np.corrcoef(scores).tolist(),
    }


def data_variants(episodes: np.ndarray, seeds: Sequence[int] = (42, 24)) -> dict[str, np.ndarray]:
    """The paper's five variants of the data: all episodes, two random halves, the first and the last half.

    Raises:
        RobosteerError: fewer than four episodes, of which no half holds two.
    """
    episodes = np.unique(episodes)
    half = len(episodes) // 2
    if half < 2:
        raise RobosteerError(
            f"episodes: found {len(episodes)}, expected at least 4 for stability; record more demonstrations"
        )
    random = {f"seed {seed}": np.sort(np.random.default_rng(seed).permutation(episodes)[:half]) for seed in seeds}
    return {"all": episodes} | random | {f"first {half}": episodes[:half], f"last {half}": episodes[-half:]}


def stability(
    source: Source, settings: KnnSettings, ms: Sequence[int], progress: Progress | None = None
) -> dict[str, Any]:
    """Jaccard indices of the heads chosen on five variants of the data, for every m (the paper's Figure 6).

    Args:
        source: activations.
        settings: how heads are chosen; its m is not used.
        ms: numbers of heads.
        progress: called with (layers done, layers) over all variants.
    """
    variants = data_variants(source.episode_index[source.rows])
    layers = source.config.paligemma.depth
    chosen: dict[str, HeadSelection] = {}
    for i, (name, episodes) in enumerate(variants.items()):
        rows = source.rows[np.isin(source.episode_index[source.rows], episodes)]

        def report(done: int, total: int, i: int = i) -> None:
            if progress is not None:
                progress(i * layers + done, len(variants) * total)

        chosen[name] = select_by_knn(source, dataclasses.replace(settings, m=max(ms)), report, rows=rows)
    return {
        "names": list(chosen),
        "k": [s.k for s in chosen.values()],
        "by_m": [
            {"m": m, "jaccard": jaccard_matrix([s.heads[:m] for s in chosen.values()]).tolist()}
            for m in sorted(set(ms))
        ],
    }


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear centred kernel alignment of two representations (Kornblith et al. 2019), 0..1.

    Args:
        x: (F, H1).
        y: (F, H2).
    """
    x, y = (z.astype(np.float64) - z.mean(0, dtype=np.float64) for z in (x, y))
    scale = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(y.T @ x) ** 2 / scale) if scale > 0 else 0.0


def redundancy(source: Source, settings: KnnSettings, heads: Heads, k: int) -> dict[str, Any]:
    """How much the heads say the same: CKA of their outputs, and correlation of their per-frame errors.

    Args:
        source: activations.
        settings: position and metric.
        heads: the heads to compare.
        k: number of neighbours.
    """
    problem = knn_problem(
        source.at(settings.position),
        source.actions,
        source.episode_index,
        ks=(k,),
        metric=settings.metric,
        rows=source.rows,
    )
    vectors: dict[tuple[int, int], np.ndarray] = {}
    errors: dict[tuple[int, int], np.ndarray] = {}
    for layer in sorted({layer for layer, _ in heads}):
        values = problem.layer(layer)
        for head, predicted in problem.predictions(layer):
            if (layer, head) in heads:
                vectors[layer, head] = values[head]
                errors[layer, head] = np.square(predicted[0] - problem.actions).sum(-1)
    cka = np.array([[linear_cka(vectors[a], vectors[b]) for b in heads] for a in heads])
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.nan_to_num(np.corrcoef(np.stack([errors[h] for h in heads])))
    return {
        "heads": [list(h) for h in heads],
        "k": k,
        "cka": cka.tolist(),
        "error_correlation": np.atleast_2d(correlation).tolist(),
    }
