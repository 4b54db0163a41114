"""How sure a ranking is: bootstrap over episodes, and a permutation null.

Both work on neighbours and errors that are computed once; no head is scored again.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_training.heads.analysis import Heads, jaccard
from robosteer_training.heads.knn import KnnProblem, knn_problem, mean_actions
from robosteer_training.heads.select import KnnSettings, Progress, excluded_heads
from robosteer_training.heads.source import Source

Shuffle = Literal["rotate", "swap"]
_PERMUTATIONS_AT_ONCE = 32


def problem_of(source: Source, settings: KnnSettings, k: int) -> KnnProblem:
    """The k-NN problem of a source for one k.

    Raises:
        RobosteerError: k exceeds the neighbours available, and everything that `knn_problem` refuses.
    """
    return knn_problem(
        source.at(settings.position),
        source.actions,
        source.episode_index,
        ks=(k,),
        metric=settings.metric,
        rows=source.rows,
    )


def episode_errors(problem: KnnProblem, progress: Progress | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Sums (L, N, E) of squared errors over the frames of each episode, and frames per episode (E,)."""
    (layers, heads), (names, index) = problem.shape, np.unique(problem.episode_index, return_inverse=True)
    sums = np.empty((layers, heads, len(names)))
    for layer in range(layers):
        for head, predicted in problem.predictions(layer):
            error = np.square(predicted[0] - problem.actions).sum(-1)
            sums[layer, head] = np.bincount(index, error, minlength=len(names))
        if progress is not None:
            progress(layer + 1, layers)
    return sums, np.bincount(index)


def bootstrap(
    source: Source,
    settings: KnnSettings,
    heads: Heads,
    k: int,
    *,
    samples: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Chance of every head to be among the best m, and its rank, when the episodes are drawn again.

    Episodes are the unit, because frames of one episode resemble each other. The drawn episodes are those that ask; the
    frames that answer stay the same.

    Args:
        source: activations.
        settings: position, metric and excluded heads.
        heads: the chosen set, of m heads.
        k: number of neighbours.
        samples: draws.
        seed: of the draws.
        progress: called with (layers done, layers).
    """
    if samples < 1:
        raise RobosteerError(f"--samples: found {samples}, expected at least 1")
    sums, counts = episode_errors(problem_of(source, settings, k), progress)
    (layers, count), episodes, m = sums.shape[:2], len(counts), len(heads)
    barred = [layer * count + head for layer, head in excluded_heads(source, settings)]
    random = np.random.default_rng([seed, 5])
    ranks = np.empty((samples, layers * count), np.int32)
    for i in range(samples):
        weight = np.bincount(random.integers(0, episodes, episodes), minlength=episodes)
        scores = (sums @ weight).ravel() / (counts @ weight)
        scores[barred] = np.inf
        ranks[i, np.argsort(scores, kind="stable")] = np.arange(layers * count)
    best = [[divmod(int(h), count) for h in np.flatnonzero(row < m)] for row in ranks]
    low, middle, high = np.percentile(ranks, (5, 50, 95), axis=0).reshape(3, layers, count)
    overlaps = np.array([jaccard(heads, chosen) for chosen in best])
    return {
        "samples": samples,
        "k": k,
        "m": m,
        "in_top_m": (ranks < m).mean(0).reshape(layers, count).tolist(),
        "rank_5": low.tolist(),
        "rank_median": middle.tolist(),
        "rank_95": high.tolist(),
        "chosen_set_jaccard": {
            "mean": float(overlaps.mean()),
            "p5": float(np.percentile(overlaps, 5)),
            "p95": float(np.percentile(overlaps, 95)),
        },
        "chosen_set_again": float((overlaps == 1).mean()),
    }


def shuffled_order(episode_index: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """An order of the frames that breaks the tie between activations and actions but keeps actions smooth in time.

    Every episode is turned by a random number of frames of its own, so that episodes that follow one course no longer
    run side by side; then they are joined in a random order.
    """
    turned = []
    for name in random.permutation(np.unique(episode_index)):
        frames = np.flatnonzero(episode_index == name)
        turned.append(np.roll(frames, int(random.integers(len(frames)))))
    return np.concatenate(turned)


def swapped_order(episode_index: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """For every frame a frame of another episode at the same share of its length; episodes are dealt out anew.

    What only knows how far an episode has come predicts these actions as well as the real ones.
    """
    names = np.unique(episode_index)
    order = np.empty(len(episode_index), np.int64)
    for name, other in zip(names, random.permutation(names), strict=True):
        own, theirs = np.flatnonzero(episode_index == name), np.flatnonzero(episode_index == other)
        order[own] = theirs[np.linspace(0, len(theirs) - 1, len(own)).round().astype(int)]
    return order


def permutation_null(
    source: Source,
    settings: KnnSettings,
    k: int,
    *,
    shuffle: Shuffle = "rotate",
    permutations: int = 200,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """A p-value per head: how often a head predicts shuffled actions as well as the real ones.

    Neighbours do not depend on actions, so that they are found once. `p_family` compares with the best head of every
    shuffle, so that the chance of a single false head among all of them is the p-value.

    Args:
        source: activations.
        settings: position and metric.
        k: number of neighbours.
        shuffle: "rotate" (`shuffled_order`) asks whether heads know anything about the actions; "swap"
            (`swapped_order`) whether they know more than how far the episode has come.
        permutations: shuffles; the smallest possible p-value is 1 / (1 + permutations).
        seed: of the shuffles.
        progress: called with (layers done, layers).
    """
    if permutations < 1:
        raise RobosteerError(f"--permutations: found {permutations}, expected at least 1")
    problem = problem_of(source, settings, k)
    layers, heads = problem.shape
    random = np.random.default_rng([seed, 6])
    order = {"rotate": shuffled_order, "swap": swapped_order}[shuffle]
    orders = [order(problem.episode_index, random) for _ in range(permutations)]
    observed, null = np.empty((layers, heads)), np.empty((permutations, layers, heads))
    for layer in range(layers):
        for head, nearest in enumerate(problem.neighbours(layer)):
            predicted = mean_actions(problem.actions, nearest, problem.ks)[0]
            observed[layer, head] = np.square(predicted - problem.actions).sum(-1).mean()
            null[:, layer, head] = null_scores(problem.actions, nearest, orders)
        if progress is not None:
            progress(layer + 1, layers)
    p = (1 + (null <= observed).sum(0)) / (1 + permutations)
    best = null.reshape(permutations, -1).min(1)
    family = (1 + (best[:, None, None] <= observed).sum(0)) / (1 + permutations)
    return {
        "shuffle": shuffle,
        "permutations": permutations,
        "k": k,
        "scores": observed.tolist(),
        "null_mean": null.mean(0).tolist(),
        "null_best_5_percent": float(np.percentile(best, 5)),
        "p": p.tolist(),
        "p_family": family.tolist(),
        "significant": int((family <= 0.05).sum()),
    }


def null_scores(actions: np.ndarray, nearest: np.ndarray, orders: list[np.ndarray]) -> np.ndarray:
    """(P,) scores of one head under shuffled actions; `nearest` is (F, k)."""
    scores = np.empty(len(orders))
    for start in range(0, len(orders), _PERMUTATIONS_AT_ONCE):
        part = orders[start : start + _PERMUTATIONS_AT_ONCE]
        # All shuffles of a frame side by side, so that a neighbour's actions are one contiguous read.
        shuffled = np.stack([actions[order] for order in part], axis=1).astype(np.float32)
        total = np.zeros_like(shuffled)
        for column in nearest.T:
            total += shuffled[column]
        error = np.square(total / nearest.shape[1] - shuffled).sum(-1, dtype=np.float64)
        scores[start : start + len(part)] = error.mean(0)
    return scores
