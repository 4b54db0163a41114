"""Nearest frames of other episodes, for all heads of a layer at once.

Determinism: similarities are compared on a grid of 1e-9, and equal ones are ordered by frame index. Float32 finds the
candidates; every row where float32 cannot tell on which side of a k-boundary a candidate lies is ranked again in
float64. So CPU, GPU and a plain float64 program agree on the neighbours, not merely on the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
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
_EXTRA_CANDIDATES = 8
_BLOCK_BYTES = 192 * 2**20
_ROWS_PER_GATHER = 256


def nearest_neighbours(vectors: np.ndarray, episode_index: np.ndarray, ks: Sequence[int], metric: Metric) -> np.ndarray:
    """Indices of the most similar frames of other episodes.

    Args:
        vectors: (N, F, H) float32.
        episode_index: (F,).
        ks: ascending; the largest is at most the number of frames outside the longest episode.
        metric: "cosine" similarity or negative squared "euclidean" distance.

    Returns:
        (N, F, ks[-1]) int32. For every k in `ks` the first k are exactly the k most similar; the order within is
        by falling similarity up to float32 rounding.
    """
    heads, frames, _ = vectors.shape
    candidates = min(ks[-1] + _EXTRA_CANDIDATES, frames)
    bank, bias, doubt = _float32_keys(vectors, metric)
    block = max(1, min(frames, _BLOCK_BYTES // (4 * heads * frames)))
    episodes = jnp.asarray(np.unique(episode_index, return_inverse=True)[1])
    bank, bias = jnp.asarray(bank), jnp.asarray(bias)
    found = np.empty((heads, frames, ks[-1]), np.int32)
    for first in range(0, frames, block):
        # The last block is moved back, so that every block has one shape and one program.
        start = min(first, frames - block)
        similarity, index = jax.device_get(_top(bank, bias, episodes, jnp.int32(start), block, candidates))
        found[:, start : start + block] = index[:, :, : ks[-1]]
        closed, opened = _doubtful(similarity, ks, doubt, everything=candidates == frames)
        for head in range(heads):
            _rank_again(found[head], vectors[head], start, closed[head], similarity[head], index[head], metric)
            for row in start + np.flatnonzero(opened[head]):
                pool = np.flatnonzero(episode_index != episode_index[row])
                exact = exact_similarity(vectors[head, row], vectors[head, pool], metric)
                found[head, row] = pool[np.lexsort((pool, -exact))][: ks[-1]]
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


def _float32_keys(vectors: np.ndarray, metric: Metric) -> tuple[np.ndarray, np.ndarray, float]:
    """Vectors (N, F, H) and bias (N, F) whose q.x + bias orders like the similarity, and the error of that sum."""
    if metric == "cosine":
        norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
        unit = vectors / np.where(norm > 0, norm, 1)
        return unit, np.zeros(unit.shape[:2], np.float32), _FLOAT32_DOUBT
    if metric == "euclidean":
        # 2<x, y> - |y|^2 orders like -|x - y|^2; centring first keeps the cancellation small.
        centred = vectors - vectors.mean(1, keepdims=True)
        square = np.square(centred).sum(-1)
        # Centring itself rounds at the scale of the vectors before it.
        scale = float(np.abs(vectors).max() * np.sqrt(square.max()) * np.sqrt(vectors.shape[-1]))
        return centred, -square / 2, _FLOAT32_DOUBT * max(float(square.max()), scale, 1e-30)
    raise RobosteerError(f"metric: found {metric!r}, expected cosine or euclidean")


@partial(jax.jit, static_argnums=(4, 5))
def _top(
    bank: jax.Array, bias: jax.Array, episodes: jax.Array, start: jax.Array, block: int, candidates: int
) -> tuple[jax.Array, jax.Array]:
    queries = jax.lax.dynamic_slice_in_dim(bank, start, block, axis=1)
    own = jax.lax.dynamic_slice_in_dim(episodes, start, block)
    similarity = jnp.einsum("nqh,nfh->nqf", queries, bank, precision=jax.lax.Precision.HIGHEST)
    similarity = similarity + bias[:, None, :]
    similarity = jnp.where(own[None, :, None] == episodes[None, None, :], -jnp.inf, similarity)
    return jax.lax.top_k(similarity, candidates)


def _doubtful(
    similarity: np.ndarray, ks: Sequence[int], doubt: float, *, everything: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (N, Q) whose boundaries need float64: among the candidates (closed), or beyond the last of them (open)."""
    unsure = np.zeros(similarity.shape[:2], bool)
    for k in ks:
        if k < similarity.shape[2]:
            # A masked neighbour has -inf: an infinite gap, so no doubt.
            unsure |= similarity[:, :, k - 1] - similarity[:, :, k] < doubt
    opened = unsure & (similarity[:, :, ks[-1] - 1] - similarity[:, :, -1] < doubt) & (not everything)
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
