"""k-NN head scores.

Regressions pinned: neighbours from the own episode; float32 deciding ties (duplicate frames, dead heads); a last block
shorter than the others; k beyond the available neighbours taken silently; a planted head missed; NaN or one episode
answered with numbers.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robosteer_rig.errors import RobosteerError
from robosteer_training.heads import neighbours
from robosteer_training.heads.knn import rank_heads, score_heads


def reference(z, actions, episode, ks, m, metric):
    """Eq. 2-5 in plain float64 numpy, one head at a time."""
    z, actions = z.astype(np.float64), actions.astype(np.float64)
    L, F, N, _ = z.shape
    predicted = np.empty((len(ks), L, N, F, actions.shape[1]))
    for layer in range(L):
        for n in range(N):
            x = z[layer, :, n]
            if metric == "cosine":
                x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
                s = np.array([(x * row).sum(1) for row in x])
            else:
                s = np.array([-((x - row) ** 2).sum(1) for row in x])
            s = np.round(s * 1e9) / 1e9
            s[episode[:, None] == episode[None]] = -np.inf
            order = np.argsort(-s, axis=1, kind="stable")
            for i, k in enumerate(ks):
                predicted[i, layer, n] = actions[order[:, :k]].mean(1)
    scores = ((predicted - actions) ** 2).sum(-1).mean(-1)
    sets = [[divmod(j, N) for j in np.argsort(s.ravel(), kind="stable")[:m]] for s in scores]
    subsets = [np.mean([p[h] for h in s], 0) for p, s in zip(predicted, sets, strict=True)]
    return scores, np.array([((p - actions) ** 2).sum(-1).mean() for p in subsets]), sets


def random_problem(frames=173, layers=3, heads=4, dim=6, episodes=5, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(layers, frames, heads, dim)).astype(np.float32)
    actions = rng.normal(size=(frames, 8)).astype(np.float32)
    episode = np.sort(rng.integers(0, episodes, frames))
    return z, actions, episode


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("block_bytes", [neighbours._BLOCK_BYTES, 4 * 4 * 173 * 50])
def test_scores_equal_an_independent_float64_program(metric, block_bytes, monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK_BYTES", block_bytes)
    z, actions, episode = random_problem()
    z[0, 40:80, 1] = z[0, :40, 1]  # duplicates: exact ties across episodes
    z[1, :, 2] = 1.0  # a dead head: every frame ties with every other
    z[2, 90:170, 3] = z[2, 3, 3]  # one large group of ties, longer than the candidate list
    z[2, :, 0] = 3 + 1e-4 * z[2, :, 0]  # all vectors nearly parallel: float32 cannot order them
    got = score_heads(z, actions, episode, m=5, ks=(3, 10, 20), metric=metric)
    scores, mse, sets = reference(z, actions, episode, (3, 10, 20), 5, metric)
    np.testing.assert_allclose(got.scores, scores, rtol=1e-12)
    np.testing.assert_allclose(got.subset_mse, mse, rtol=1e-5)
    assert got.heads == sets[int(np.argmin(mse))]
    assert got.best_k == (3, 10, 20)[int(np.argmin(mse))]


@given(frames=st.integers(12, 61), levels=st.integers(1, 3), seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_ties_are_broken_by_frame_whatever_the_size(frames, levels, seed):
    """Vectors of few levels tie everywhere; some are all zero."""
    rng = np.random.default_rng(seed)
    z = rng.integers(-levels, levels + 1, (1, frames, 2, 3)).astype(np.float32)
    actions, episode = rng.normal(size=(frames, 3)), np.arange(frames) * 3 // frames
    for metric in ("cosine", "euclidean"):
        got = score_heads(z, actions, episode, m=1, ks=(1, 4), metric=metric)
        scores, _, sets = reference(z, actions, episode, (1, 4), 1, metric)
        np.testing.assert_allclose(got.scores, scores, rtol=1e-12)
        assert got.heads in sets


def test_a_planted_head_is_found_and_shuffled_actions_lose_it():
    z, actions, episode = random_problem(frames=300, seed=1)
    rng = np.random.default_rng(2)
    z[1, :, 3, :] = actions[:, :6] + 0.05 * rng.normal(size=(300, 6))
    found = score_heads(z, actions, episode, m=1)
    assert found.heads == [(1, 3)]
    assert found.best_scores[1, 3] < 0.7 * np.delete(found.best_scores.ravel(), 7).min()
    null = score_heads(z, rng.permutation(actions), episode, m=1)
    assert null.best_scores.min() > 0.9 * np.median(null.best_scores)


def test_scores_are_ordered_by_score_layer_head():
    scores = np.array([[2.0, 1.0], [1.0, 0.5]])
    assert rank_heads(scores) == [(1, 1), (0, 1), (1, 0), (0, 0)]
    assert rank_heads(scores, excluded=[(1, 1)]) == [(0, 1), (1, 0), (0, 0)]


def test_k_beyond_the_available_neighbours_is_dropped_and_named():
    z, actions, _ = random_problem(frames=30)
    episode = np.repeat([0, 1], 15)
    found = score_heads(z, actions, episode, m=2)
    assert found.ks == (10,)
    assert found.dropped_ks == (20, 30, 40)
    with pytest.raises(RobosteerError, match="at most 15"):
        score_heads(z, actions, episode, m=2, ks=(16, 40))


def test_bad_input_is_one_clear_line():
    z, actions, episode = random_problem(frames=60)
    with pytest.raises(RobosteerError, match="found 1, expected at least 2"):
        score_heads(z, actions, np.zeros(60, int), m=2)
    with pytest.raises(RobosteerError, match="same action in every frame"):
        score_heads(z, np.ones_like(actions), episode, m=2)
    bad = z.copy()
    bad[2, 7, 1, 0] = np.nan
    with pytest.raises(RobosteerError, match="layer 2, head 1, frame 7"):
        score_heads(bad, actions, episode, m=2, ks=(5,))
    with pytest.raises(RobosteerError, match="m: found 13, expected 1"):
        score_heads(z, actions, episode, m=13, ks=(5,))
    with pytest.raises(RobosteerError, match="one per frame"):
        score_heads(z, actions[:50], episode, m=2)
