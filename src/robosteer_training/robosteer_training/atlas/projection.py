"""The tokens nearest to each value vector, streamed over the vocabulary."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

# Scores held at once: rows x tokens.
ROWS, TOKENS = 2048, 8192


@jax.jit
def _scores(vectors: jax.Array, tokens: jax.Array) -> jax.Array:
    return jnp.einsum("fd,vd->fv", vectors, tokens, precision=jax.lax.Precision.HIGHEST)


def top_tokens(
    vectors: np.ndarray,
    tokens: np.ndarray,
    k: int,
    *,
    rows: int = ROWS,
    block: int = TOKENS,
    progress: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens with the largest dot products; among equals the one with the smaller id comes first.

    Memory stays at rows x block scores, whatever the vocabulary: all of them at once would take 17 GB per layer of
    PaliGemma.

    Args:
        vectors: (F, D) float32.
        tokens: (V, D) float32.
        k: tokens per vector, at most V.
        rows: vectors at once.
        block: tokens at once.
        progress: called with the number of vectors that are done.

    Returns:
        ids (F, k) int32 and scores (F, k) float32, best first.
    """
    if not 0 < k <= len(tokens):
        raise ValueError(f"k={k} of {len(tokens)} tokens")
    ids = np.zeros((len(vectors), k), np.int32)
    scores = np.zeros((len(vectors), k), np.float32)
    for start in range(0, len(vectors), rows):
        part = slice(start, start + rows)
        here = jnp.asarray(vectors[part])
        best = np.full((here.shape[0], k), -np.inf, np.float32)
        index = np.full((here.shape[0], k), -1, np.int32)
        for first in range(0, len(tokens), block):
            _offer(best, index, np.asarray(_scores(here, tokens[first : first + block])), first)
        ids[part], scores[part] = index, best
        if progress is not None:
            progress(min(start + rows, len(vectors)))
    return ids, scores


def _offer(best: np.ndarray, index: np.ndarray, found: np.ndarray, first: int) -> None:
    """Let a block of scores (R, B), whose tokens have higher ids than all before, enter the best so far, in place."""
    k = best.shape[1]
    # What does not beat the last of a row cannot enter it; after the first blocks that is nearly everything.
    row, column = np.nonzero(found > best[:, -1:])
    rows, starts = np.unique(row, return_index=True)
    for r, group in zip(rows, np.split(column, starts[1:]) if rows.size else (), strict=True):
        scores = np.concatenate([best[r], found[r, group]])
        tokens = np.concatenate([index[r], (group + first).astype(np.int32)])
        order = np.argsort(-scores, kind="stable")[:k]
        best[r], index[r] = scores[order], tokens[order]
