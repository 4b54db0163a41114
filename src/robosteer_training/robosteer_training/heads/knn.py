"""k-NN regression scores: how well the actions of a head's nearest frames predict the action of a frame.

The Robotic Steering paper (arXiv 2511.22697), Eq. 2-5: the neighbours of a frame come from *other* episodes only, the
prediction is the mean of their actions, the score of a head is the mean over frames of the squared L2 error; lower is
better. One sorted top-`max(ks)` list serves every k.

Memory: one layer's vectors, one block of similarities, and the predictions of the m heads that lead so far: only time
limits N.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_training.heads.neighbours import Metric, nearest_neighbours

DEFAULT_KS = (10, 20, 30, 40)


@dataclasses.dataclass(frozen=True)
class KnnScores:
    """Scores of all heads for every k, and the k that serves best.

    Attributes:
        ks: the k that were evaluated, ascending.
        dropped_ks: the k asked for that exceed the neighbours available.
        scores: (len(ks), L, N) float64, mean squared L2 error of normalised actions; lower is better.
        subset_mse: (len(ks),) float64, the same error of the mean prediction of that k's best m heads.
        best_k: argmin of `subset_mse`, the smaller k on a tie.
        heads: the best m heads for `best_k`, best first, as (layer, head).
    """

    ks: tuple[int, ...]
    dropped_ks: tuple[int, ...]
    scores: np.ndarray
    subset_mse: np.ndarray
    best_k: int
    heads: list[tuple[int, int]]

    @property
    def best_scores(self) -> np.ndarray:
        """(L, N) scores for `best_k`."""
        return self.scores[self.ks.index(self.best_k)]


def rank_heads(scores: np.ndarray, excluded: Sequence[tuple[int, int]] = ()) -> list[tuple[int, int]]:
    """Order heads by (score, layer, head), lowest first.

    Args:
        scores: (L, N).
        excluded: heads to leave out.
    """
    flat = np.argsort(scores, axis=None, kind="stable")
    order = [divmod(int(i), scores.shape[1]) for i in flat]
    return [head for head in order if head not in set(excluded)]


@dataclasses.dataclass(frozen=True)
class KnnProblem:
    """Checked inputs of everything that reads neighbours.

    Attributes:
        activations: (L, F', N, H) float32, or anything with that shape whose layers can be indexed.
        rows: (F,) the frames of it that take part; others are neither scored nor neighbours.
        actions: (F, A) float64.
        episode_index: (F,).
        ks: usable numbers of neighbours, ascending.
        dropped_ks: those asked for that exceed the neighbours available.
        metric: see `nearest_neighbours`.
    """

    activations: Any
    rows: np.ndarray
    actions: np.ndarray
    episode_index: np.ndarray
    ks: tuple[int, ...]
    dropped_ks: tuple[int, ...]
    metric: Metric

    @property
    def shape(self) -> tuple[int, int]:
        """Layers and heads."""
        return self.activations.shape[0], self.activations.shape[2]

    def layer(self, index: int) -> np.ndarray:
        """(N, F, H) vectors of one layer.

        Raises:
            RobosteerError: a value that is no number.
        """
        vectors = np.ascontiguousarray(np.asarray(self.activations[index], np.float32)[self.rows].transpose(1, 0, 2))
        _check_finite(vectors, index, self.rows)
        return vectors

    def neighbours(self, index: int) -> np.ndarray:
        """(N, F, max(ks)) int32, nearest first, for the heads of one layer."""
        return nearest_neighbours(self.layer(index), self.episode_index, self.ks, self.metric)

    def predictions(self, index: int) -> Iterator[tuple[int, np.ndarray]]:
        """(head, (len(ks), F, A) float64 mean actions of the first k neighbours) of one layer."""
        for head, nearest in enumerate(self.neighbours(index)):
            yield head, mean_actions(self.actions, nearest, self.ks)


def knn_problem(
    activations: Any,
    actions: np.ndarray,
    episode_index: np.ndarray,
    *,
    ks: Sequence[int] = DEFAULT_KS,
    metric: Metric = "cosine",
    rows: np.ndarray | None = None,
) -> KnnProblem:
    """Check the inputs; arguments as in `score_heads`.

    Raises:
        RobosteerError: one episode only, no k that fits, constant or non-finite actions.
    """
    total = activations.shape[1]
    _check_lengths(total, actions, episode_index)
    rows = np.arange(total) if rows is None else rows
    actions, episode_index = np.asarray(actions, np.float64)[rows], np.asarray(episode_index)[rows]
    usable, dropped = _check_inputs(actions, episode_index, ks)
    return KnnProblem(activations, rows, actions, episode_index, usable, dropped, metric)


def score_heads(
    activations: Any,
    actions: np.ndarray,
    episode_index: np.ndarray,
    *,
    m: int,
    ks: Sequence[int] = DEFAULT_KS,
    metric: Metric = "cosine",
    excluded: Sequence[tuple[int, int]] = (),
    rows: np.ndarray | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> KnnScores:
    """Score every head and choose k.

    Args:
        activations: (L, F, N, H) float32, one vector per layer, frame and head; may be memory-mapped, one layer is
            read at a time.
        actions: (F, A) normalised actions.
        episode_index: (F,) which episode each frame belongs to.
        m: how many heads form the subset by which k is chosen.
        ks: numbers of neighbours to try.
        metric: "cosine" similarity or negative squared "euclidean" distance.
        excluded: heads that may not be chosen (they are scored all the same).
        rows: frames to use; None for all. Others are neither scored nor neighbours.
        progress: called with (layers done, layers).

    Raises:
        RobosteerError: one episode only, no k that fits, constant or non-finite actions, non-finite activations.
    """
    problem = knn_problem(activations, actions, episode_index, ks=ks, metric=metric, rows=rows)
    (layers, heads), barred = problem.shape, set(excluded)
    if not 0 < m <= layers * heads - len(barred):
        raise RobosteerError(f"m: found {m}, expected 1 ... {layers * heads - len(barred)} heads")
    scores = np.empty((len(problem.ks), layers, heads))
    leaders = [_Leaders(m) for _ in problem.ks]
    for layer in range(layers):
        for head, predicted in problem.predictions(layer):
            scores[:, layer, head] = np.square(predicted - problem.actions).sum(-1).mean(-1)
            if (layer, head) not in barred:
                for i, best in enumerate(leaders):
                    best.offer(scores[i, layer, head], (layer, head), predicted[i])
        if progress is not None:
            progress(layer + 1, layers)
    subset_mse = np.array([best.subset_error(problem.actions) for best in leaders])
    best = int(np.argmin(subset_mse))
    return KnnScores(problem.ks, problem.dropped_ks, scores, subset_mse, problem.ks[best], leaders[best].heads)


class _Leaders:
    """The best m heads so far, with their predictions."""

    def __init__(self, m: int) -> None:
        self._m = m
        self._entries: list[tuple[float, tuple[int, int], np.ndarray]] = []

    def offer(self, score: float, head: tuple[int, int], predicted: np.ndarray) -> None:
        """Take a head in if it is good enough; ties go by (layer, head)."""
        if len(self._entries) == self._m and (score, head) >= self._entries[-1][:2]:
            return
        bisect.insort(self._entries, (score, head, predicted.astype(np.float32)), key=lambda entry: entry[:2])
        del self._entries[self._m :]

    @property
    def heads(self) -> list[tuple[int, int]]:
        """Best first."""
        return [head for _, head, _ in self._entries]

    def subset_error(self, actions: np.ndarray) -> float:
        """Mean squared L2 error of the mean prediction of these heads; summed in the order of (layer, head)."""
        ordered = sorted(self._entries, key=lambda entry: entry[1])
        mean = sum(predicted.astype(np.float64) for _, _, predicted in ordered) / len(ordered)
        return float(np.square(mean - actions).sum(-1).mean())


def _check_lengths(frames: int, actions: np.ndarray, episode_index: np.ndarray) -> None:
    if actions.ndim != 2 or len(actions) != frames or episode_index.shape != (frames,):
        raise RobosteerError(
            f"head scores: found {actions.shape} actions and {episode_index.shape} episode indices, "
            f"expected one per frame of the cache ({frames}); rebuild the cache for this dataset"
        )


def _check_inputs(
    actions: np.ndarray, episode_index: np.ndarray, ks: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if not np.isfinite(actions).all():
        row = int(np.flatnonzero(~np.isfinite(actions).all(1))[0])
        raise RobosteerError(f"actions: found a non-finite value in frame {row}, expected numbers; check the recording")
    if np.ptp(actions, axis=0).max() < 1e-9:
        raise RobosteerError(
            "actions: found the same action in every frame, expected motion; every head predicts a constant"
        )
    _, counts = np.unique(episode_index, return_counts=True)
    if len(counts) < 2:
        raise RobosteerError(
            "episodes: found 1, expected at least 2; neighbours come from other episodes, record one more demonstration"
        )
    available = len(actions) - int(counts.max())
    wanted = sorted(set(ks))
    if not wanted or wanted[0] < 1:
        raise RobosteerError(f"k: found {list(ks)}, expected positive numbers of neighbours")
    usable = tuple(k for k in wanted if k <= available)
    if not usable:
        raise RobosteerError(
            f"k: found {list(ks)}, expected at most {available} (frames outside the longest episode); "
            "give a smaller --k or record more"
        )
    return usable, tuple(k for k in wanted if k > available)


def _check_finite(vectors: np.ndarray, layer: int, rows: np.ndarray) -> None:
    finite = np.isfinite(vectors).all((1, 2))
    if not finite.all():
        head = int(np.flatnonzero(~finite)[0])
        frame = int(rows[np.flatnonzero(~np.isfinite(vectors[head]).all(1))[0]])
        raise RobosteerError(
            f"activations: found a non-finite value in layer {layer}, head {head}, frame {frame}, expected numbers; "
            "check the checkpoint and delete the cache"
        )


def mean_actions(actions: np.ndarray, neighbours: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """(len(ks), F, A) float64: mean action of the first k neighbours; `neighbours` is (F, max(ks))."""
    gathered = actions[neighbours]
    total = np.zeros((len(neighbours), actions.shape[1]))
    means, start = [], 0
    for k in ks:
        total = total + gathered[:, start:k].sum(1)
        means.append(total / k)
        start = k
    return np.stack(means)
