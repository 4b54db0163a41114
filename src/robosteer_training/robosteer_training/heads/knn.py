"""k-NN regression scores: how well the actions of a head's nearest frames predict the action of a frame.

The Robotic Steering paper (arXiv 2511.22697), Eq. 2-5: the neighbours of a frame come from *other* episodes only, the
prediction is the mean of their actions, the score of a head is the mean over frames of the squared L2 error; lower is
better. One sorted top-`max(ks)` list serves every k.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

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


def score_heads(
    activations: np.ndarray,
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
    layers, total, heads, _ = activations.shape
    _check_lengths(total, actions, episode_index)
    rows = np.arange(total) if rows is None else rows
    actions, episode_index = np.asarray(actions, np.float64)[rows], np.asarray(episode_index)[rows]
    usable, dropped = _check_inputs(actions, episode_index, ks)
    frames = len(rows)
    if not 0 < m <= layers * heads - len(set(excluded)):
        raise RobosteerError(f"m: found {m}, expected 1 ... {layers * heads - len(set(excluded))} heads")
    predictions = np.empty((len(usable), layers, heads, frames, actions.shape[1]), np.float32)
    scores = np.empty((len(usable), layers, heads))
    for layer in range(layers):
        vectors = np.ascontiguousarray(np.asarray(activations[layer], np.float32)[rows].transpose(1, 0, 2))
        _check_finite(vectors, layer, rows)
        neighbours = nearest_neighbours(vectors, episode_index, usable, metric)
        for head in range(heads):
            predicted = _mean_actions(actions, neighbours[head], usable)
            scores[:, layer, head] = np.square(predicted - actions).sum(-1).mean(-1)
            predictions[:, layer, head] = predicted
        if progress is not None:
            progress(layer + 1, layers)
    chosen = [rank_heads(per_k, excluded)[:m] for per_k in scores]
    subset_mse = np.array(
        [subset_error(p, subset, actions) for p, subset in zip(predictions, chosen, strict=True)], np.float64
    )
    best = int(np.argmin(subset_mse))
    return KnnScores(usable, dropped, scores, subset_mse, usable[best], chosen[best])


def subset_error(predictions: np.ndarray, heads: Sequence[tuple[int, int]], actions: np.ndarray) -> float:
    """Mean squared L2 error of the mean prediction of some heads.

    Args:
        predictions: (L, N, F, A).
        heads: the subset.
        actions: (F, A).
    """
    layer, head = np.array(heads).T
    mean = predictions[layer, head].mean(0, dtype=np.float64)
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


def _mean_actions(actions: np.ndarray, neighbours: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """(len(ks), F, A) float64: mean action of the first k neighbours; `neighbours` is (F, max(ks))."""
    gathered = actions[neighbours]
    total = np.zeros((len(neighbours), actions.shape[1]))
    means, start = [], 0
    for k in ks:
        total = total + gathered[:, start:k].sum(1)
        means.append(total / k)
        start = k
    return np.stack(means)
