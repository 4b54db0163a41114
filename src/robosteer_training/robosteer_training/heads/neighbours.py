"""Nearest frames of other episodes, for all heads of a layer.

Determinism: similarities are compared on a grid of 1e-9, and equal ones are ordered by frame index. Float32 finds the
candidates; every row where float32 cannot tell on which side of a k-boundary a candidate lies is ranked again in
float64. So CPU, GPU and a plain float64 program agree on the neighbours, not merely on the scores.

Cost: one float32 matrix product per head, and a partial sort of its rows. Accelerators run one XLA program for all
heads of a layer. On a CPU XLA's `top_k` would take most of the time, so that numpy's vectorised partition replaces it;
the products stay with XLA, because OpenBLAS's threads spin after a product and take the cores from the partial sorts.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_rig.errors import RobosteerError

Metric = Literal["cosine", "euclidean"]

SIMILARITY_GRID = 1e-9
# Float32 dot products of unit vectors err by a few 1e-7; ten times that is "cannot tell".
_FLOAT32_DOUBT = 4e-6
_EXTRA_CANDIDATES = 24
_BLOCK_BYTES = 192 * 2**20
_ROWS_PER_GATHER = 256


def nearest_neighbours(
    vectors: np.ndarray,
    episode_index: np.ndarray,
    ks: Sequence[int],
    metric: Metric,
    *,
    on_device: bool | None = None,
) -> np.ndarray:
    """Indices of the most similar frames of other episodes.

    Args:
        vectors: (N, F, H) float32.
        episode_index: (F,).
        ks: ascending; the largest is at most the number of frames outside the longest episode.
        metric: "cosine" similarity or negative squared "euclidean" distance.
        on_device: find the candidates with XLA; None does so where XLA's device is not the CPU. The result is the same.

    Returns:
        (N, F, ks[-1]) int32. For every k in `ks` the first k are exactly the k most similar; the order within is
        by falling similarity up to float32 rounding.
    """
    heads, frames, _ = vectors.shape
    candidates = min(ks[-1] + _EXTRA_CANDIDATES, frames)
    episodes = np.unique(episode_index, return_inverse=True)[1]
    device = jax.default_backend() != "cpu" if on_device is None else on_device
    find = _found_on_device if device else _found_on_host
    found = np.empty((heads, frames, ks[-1]), np.int32)
    for head, start, doubt, similarity, index in find(vectors, metric, episodes, candidates):
        found[head, start : start + len(index)] = index[:, : ks[-1]]
        closed, opened = _doubtful(similarity, ks, doubt, everything=candidates == frames)
        _rank_again(found[head], vectors[head], start, closed, similarity, index, metric)
        _rank_all(found[head], vectors[head], start + np.flatnonzero(opened), episodes, metric)
    return found


def exact_similarity(queries: np.ndarray, others: np.ndarray, metric: Metric) -> np.ndarray:
    """Float64 similarity on the grid on which ties are defined.

    Args:
        queries: (..., H).
        others: (..., P, H).
        metric: see `nearest_neighbours`.

    Returns:
        (..., P) cosine, or minus the squared distance.
    """
    queries, others = queries.astype(np.float64)[..., None, :], others.astype(np.float64)
    if metric == "euclidean":
        value = -np.square(others - queries).sum(-1)
    else:
        norms = np.sqrt(np.square(others).sum(-1) * np.square(queries).sum(-1))
        value = (others * queries).sum(-1) / np.where(norms > 0, norms, 1)
    return np.round(value / SIMILARITY_GRID) * SIMILARITY_GRID


@dataclasses.dataclass(frozen=True)
class _Keys:
    """One head in float32.

    Attributes:
        bank: (F, H); bank[i] . bank[j] + bias[j] orders like the similarity of frame i to the frames j.
        bias: (F,).
        doubt: error of that sum.
    """

    bank: np.ndarray
    bias: np.ndarray
    doubt: float


def _float32_keys(vectors: np.ndarray, metric: Metric) -> _Keys:
    """Keys of one head, (F, H)."""
    if metric == "cosine":
        norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
        return _Keys(vectors / np.where(norm > 0, norm, 1), np.zeros(len(vectors), np.float32), _FLOAT32_DOUBT)
    if metric == "euclidean":
        # 2<x, y> - |y|^2 orders like -|x - y|^2; centring first keeps the cancellation small.
        centred = vectors - vectors.mean(0, keepdims=True)
        square = np.square(centred).sum(-1)
        # Centring itself rounds at the scale of the vectors before it.
        scale = float(np.abs(vectors).max() * np.sqrt(square.max()) * np.sqrt(vectors.shape[-1]))
        return _Keys(centred, -square / 2, _FLOAT32_DOUBT * max(float(square.max()), scale, 1e-30))
    raise RobosteerError(f"metric: found {metric!r}, expected cosine or euclidean")


# What a search yields: the head, the first row of a block, the error of a similarity, and similarities and indices
# (rows, candidates), best first.
_Found = Iterator[tuple[int, int, float, np.ndarray, np.ndarray]]


def _blocks(frames: int, heads: int) -> list[int]:
    """First rows of blocks of one length; the last one is moved back, so that all share one program."""
    block = _block_length(frames, heads)
    return [min(first, frames - block) for first in range(0, frames, block)]


def _block_length(frames: int, heads: int) -> int:
    return max(1, min(frames, _BLOCK_BYTES // (4 * heads * frames)))


def _found_on_host(vectors: np.ndarray, metric: Metric, episodes: np.ndarray, candidates: int) -> _Found:
    """Products by XLA, head by head; numpy's partial sorts of the rows share the cores."""
    frames, workers = len(episodes), len(os.sched_getaffinity(0))
    block, owner = _block_length(frames, 1), jnp.asarray(episodes)
    with ThreadPoolExecutor(workers) as pool:
        for head, own in enumerate(vectors):
            key = _float32_keys(own, metric)
            bank, bias = jnp.asarray(key.bank[None]), jnp.asarray(key.bias[None])
            for start in _blocks(frames, 1):
                similarity = np.asarray(_similarity(bank, bias, owner, jnp.int32(start), block))[0]
                parts = pool.map(lambda rows: _best_of_rows(rows, candidates), np.array_split(similarity, workers))
                values, index = (np.concatenate(x) for x in zip(*parts, strict=True))
                yield head, start, key.doubt, values, index


def _best_of_rows(similarity: np.ndarray, candidates: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest `candidates` of each row, best first."""
    if candidates < similarity.shape[1]:
        index = np.argpartition(similarity, -candidates, axis=1)[:, -candidates:]
    else:
        index = np.broadcast_to(np.arange(candidates), similarity.shape)
    values = np.take_along_axis(similarity, index, axis=1)
    order = np.argsort(-values, axis=1)
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(index, order, axis=1).astype(np.int32)


def _found_on_device(vectors: np.ndarray, metric: Metric, episodes: np.ndarray, candidates: int) -> _Found:
    """Candidates of all heads by one XLA program."""
    heads, frames = len(vectors), len(episodes)
    keys = [_float32_keys(own, metric) for own in vectors]
    bank, bias = jnp.stack([key.bank for key in keys]), jnp.stack([key.bias for key in keys])
    owner, block = jnp.asarray(episodes), _block_length(frames, heads)
    for start in _blocks(frames, heads):
        values, index = jax.device_get(_top(bank, bias, owner, jnp.int32(start), block, candidates))
        for head in range(heads):
            yield head, start, keys[head].doubt, values[head], index[head]


@partial(jax.jit, static_argnums=4)
def _similarity(bank: jax.Array, bias: jax.Array, episodes: jax.Array, start: jax.Array, block: int) -> jax.Array:
    """(N, block, F) of the rows from `start` on; -inf at frames of the row's own episode."""
    queries = jax.lax.dynamic_slice_in_dim(bank, start, block, axis=1)
    own = jax.lax.dynamic_slice_in_dim(episodes, start, block)
    similarity = jnp.einsum("nqh,nfh->nqf", queries, bank, precision=jax.lax.Precision.HIGHEST) + bias[:, None, :]
    return jnp.where(own[None, :, None] == episodes[None, None, :], -jnp.inf, similarity)


@partial(jax.jit, static_argnums=(4, 5))
def _top(
    bank: jax.Array, bias: jax.Array, episodes: jax.Array, start: jax.Array, block: int, candidates: int
) -> tuple[jax.Array, jax.Array]:
    return jax.lax.top_k(_similarity(bank, bias, episodes, start, block), candidates)


def _doubtful(
    similarity: np.ndarray, ks: Sequence[int], doubt: float, *, everything: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (Q,) whose boundaries need float64: among the candidates (closed), or beyond the last of them (open)."""
    unsure = np.zeros(len(similarity), bool)
    for k in ks:
        if k < similarity.shape[1]:
            # A masked neighbour has -inf: an infinite gap, so no doubt.
            unsure |= similarity[:, k - 1] - similarity[:, k] < doubt
    opened = unsure & (similarity[:, ks[-1] - 1] - similarity[:, -1] < doubt) & (not everything)
    return unsure & ~opened, opened


def _rank_again(
    found: np.ndarray,
    vectors: np.ndarray,
    start: int,
    doubtful: np.ndarray,
    similarity: np.ndarray,
    index: np.ndarray,
    metric: Metric,
) -> None:
    """Order the candidates of the doubtful rows of one head in float64; writes into `found` (F, k)."""
    rows = np.flatnonzero(doubtful)
    for at in range(0, len(rows), _ROWS_PER_GATHER):
        part = rows[at : at + _ROWS_PER_GATHER]
        pool = index[part]
        exact = exact_similarity(vectors[start + part], vectors[pool], metric)
        exact[~np.isfinite(similarity[part])] = -np.inf
        order = np.lexsort((pool, -exact), axis=-1)
        found[start + part] = np.take_along_axis(pool, order, axis=-1)[:, : found.shape[1]]


def _rank_all(found: np.ndarray, vectors: np.ndarray, rows: np.ndarray, episodes: np.ndarray, metric: Metric) -> None:
    """Order all frames for some rows of one head in float64; writes into `found` (F, k)."""
    if len(rows) == 0:
        return
    wide = vectors.astype(np.float64)
    if metric == "cosine":
        norm = np.linalg.norm(wide, axis=1, keepdims=True)
        wide /= np.where(norm > 0, norm, 1)
    block = max(1, _BLOCK_BYTES // (8 * len(vectors)))
    for at in range(0, len(rows), block):
        part = rows[at : at + block]
        if metric == "cosine":
            exact = np.round(wide[part] @ wide.T / SIMILARITY_GRID) * SIMILARITY_GRID
        else:
            exact = np.stack([exact_similarity(vectors[row], vectors, metric) for row in part])
        exact[episodes[part][:, None] == episodes] = -np.inf
        found[part] = np.argsort(-exact, axis=1, kind="stable")[:, : found.shape[1]]
