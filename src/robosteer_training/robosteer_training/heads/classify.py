"""Classification by heads: which heads tell one task (or outcome) from the others.

The Robotic Steering paper, A.2: c+ and c- are a head's mean outputs over positive and negative frames; the score of a
head is Σ y (cos(h, c+) - cos(h, c-)) with y = ±1, here divided by the number of frames. At inference every head votes
for the nearer centroid, and the majority decides; the margin is the mean of correct minus wrong votes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_training.heads.knn import rank_heads
from robosteer_training.heads.select import KnnSettings, Progress, excluded_heads, make_selection, wanted_heads
from robosteer_training.heads.selection import HeadSelection
from robosteer_training.heads.source import Source


@dataclasses.dataclass(frozen=True)
class Classified:
    """What heads say about frames.

    Attributes:
        scores: (L, N) mean of y (cos(h, c+) - cos(h, c-)) over the frames that made the centroids; higher is better.
        correct: (L, N, F) bool votes on other frames, True where the head votes for the right class.
    """

    scores: np.ndarray
    correct: np.ndarray


def labels_of(source: Source, rows: np.ndarray, positive: str | None, by: str = "task") -> tuple[np.ndarray, str]:
    """Bool (len(rows),) of the positive frames, and the name of that class.

    Args:
        source: what the episodes are.
        rows: rows in question.
        positive: instruction or outcome; None takes the first of exactly two.
        by: "task" or "outcome".

    Raises:
        RobosteerError: an unknown class, or frames of one class only.
    """
    names = (source.tasks if by == "task" else source.outcomes)[rows]
    known = list(dict.fromkeys(str(name) for name in names))
    if not known:
        raise RobosteerError("classes: found no usable frames, expected some; check the recordings for stale inputs")
    if positive is None and len(known) == 2:
        positive = known[0]
    if len(known) < 2:
        raise RobosteerError(
            f"classes: found only {by} {known[0]!r}, expected at least two; add a cache of another one"
        )
    if positive not in known:
        raise RobosteerError(f"--positive: found {positive!r}, expected one of {known}")
    return names == positive, positive


def classify(
    activations: Any,
    train: np.ndarray,
    train_positive: np.ndarray,
    test: np.ndarray,
    test_positive: np.ndarray,
    progress: Progress | None = None,
) -> Classified:
    """Centroids, scores and votes of all heads.

    Args:
        activations: (L, F, N, H), read layer by layer.
        train: rows that make the centroids.
        train_positive: bool, their class.
        test: rows that are voted on.
        test_positive: bool, their class.
        progress: called with (layers done, layers).

    Raises:
        RobosteerError: a class without frames; activations that are no numbers.
    """
    if train_positive.all() or not train_positive.any():
        raise RobosteerError("classes: found frames of one class only among those that make the centroids")
    layers, _, heads, _ = activations.shape
    scores, correct = np.empty((layers, heads)), np.empty((layers, heads, len(test)), bool)
    sign = np.where(train_positive, 1.0, -1.0)
    for layer in range(layers):
        z = np.asarray(activations[layer], np.float64)
        if not np.isfinite(z[train]).all() or not np.isfinite(z[test]).all():
            raise RobosteerError(f"activations: found a non-finite value in layer {layer}; delete the cache")
        centroids = z[train][train_positive].mean(0), z[train][~train_positive].mean(0)
        lead = _cosine(z[train], centroids[0]) - _cosine(z[train], centroids[1])
        scores[layer] = (sign[:, None] * lead).mean(0)
        votes = _cosine(z[test], centroids[0]) > _cosine(z[test], centroids[1])
        correct[layer] = (votes == test_positive[:, None]).T
        if progress is not None:
            progress(layer + 1, layers)
    return Classified(scores, correct)


def _cosine(z: np.ndarray, centroid: np.ndarray) -> np.ndarray:
    """(F, N) of vectors (F, N, H) and centroids (N, H)."""
    norms = np.linalg.norm(z, axis=-1) * np.linalg.norm(centroid, axis=-1)
    return (z * centroid).sum(-1) / np.where(norms > 0, norms, 1)


def accuracy_and_margin(correct: np.ndarray, heads: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Share of frames that the majority gets right, and the mean of correct minus wrong votes.

    Args:
        correct: (L, N, F) bool votes.
        heads: who votes. A draw is not right.
    """
    layer, head = np.array(heads).T
    lead = 2 * correct[layer, head].sum(0) - len(heads)
    return float((lead > 0).mean()), float(lead.mean())


def split_by_episode(episodes: np.ndarray, positive: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Indices of training and of test frames: half of the episodes of each class.

    Raises:
        RobosteerError: a class with fewer than two episodes.
    """
    random, test = np.random.default_rng([seed, 3]), np.zeros(len(episodes), bool)
    for label in (True, False):
        own = np.unique(episodes[positive == label])
        if len(own) < 2:
            raise RobosteerError(f"classes: found {len(own)} episode of one class, expected two; record one more")
        test |= np.isin(episodes, random.permutation(own)[: len(own) // 2])
    return np.flatnonzero(~test), np.flatnonzero(test)


def compare_groups(
    source: Source,
    settings: KnnSettings,
    groups: Mapping[str, Sequence[tuple[int, int]]],
    *,
    positive: str | None = None,
    by: str = "task",
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Accuracy and voting margin of groups of heads on episodes that did not make the centroids (the paper's Table 6).

    Args:
        source: activations of at least two classes.
        settings: position, m, excluded heads.
        groups: more groups by name; "top", "worst", "all" and "random" of the classification scores are always there.
        positive: see `labels_of`.
        by: see `labels_of`.
        seed: of the split and of the random group.
        progress: called with (layers done, layers).
    """
    rows = source.rows
    labels, name = labels_of(source, rows, positive, by)
    train, test = split_by_episode(source.episode_index[rows], labels, seed)
    found = classify(source.at(settings.position), rows[train], labels[train], rows[test], labels[test], progress)
    ranked, m = rank_heads(-found.scores, excluded_heads(source, settings)), wanted_heads(source, settings)
    chance = np.random.default_rng([seed, 4]).permutation(len(ranked))[:m]
    sets = {"top": ranked[:m], "worst": ranked[-m:], "all": ranked, "random": [ranked[i] for i in chance], **groups}
    table = []
    for group, heads in sets.items():
        accuracy, margin = accuracy_and_margin(found.correct, heads)
        table.append({"group": group, "heads": len(heads), "accuracy": accuracy, "margin": margin})
    return {
        "positive": name,
        "by": by,
        "train_frames": len(train),
        "test_frames": len(test),
        "test_positive": int(labels[test].sum()),
        "groups": table,
    }


def select_by_classification(
    source: Source,
    settings: KnnSettings,
    progress: Progress | None = None,
    *,
    positive: str | None = None,
    by: str = "task",
) -> HeadSelection:
    """The m heads that tell the positive frames from the others best, on all of them.

    Stored scores have their sign turned, so that low leads as in every selection.
    """
    rows = source.rows
    labels, name = labels_of(source, rows, positive, by)
    found = classify(source.at(settings.position), rows, labels, rows, labels, progress)
    scores = -found.scores
    heads = rank_heads(scores, excluded_heads(source, settings))[: wanted_heads(source, settings)]
    accuracy, margin = accuracy_and_margin(found.correct, heads)
    return make_selection(
        source,
        settings,
        "classify",
        scores,
        heads,
        rows=rows,
        chosen={"positive": name, "by": by},
        details={"training_accuracy": accuracy, "training_margin": margin},
    )
