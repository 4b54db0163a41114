"""Stability, overlap, redundancy, bootstrap and the permutation null.

Regressions pinned: overlap counted against m instead of the union; a null that finds heads where actions are shuffled,
or misses a planted one; a null that a clock passes; a bootstrap that draws frames; a shuffle that loses actions;
selections of different models compared; a store of one episode answered with numbers; rows that float32 cannot order
ranked one by one; a selection for one task judged on the frames of all.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robosteer_rig.errors import RobosteerError
from robosteer_training.heads import knn
from robosteer_training.heads import neighbours as neighbours_module
from robosteer_training.heads.analysis import (
    coefficient_of_variation,
    data_variants,
    jaccard,
    linear_cka,
    overlap,
    redundancy,
    stability,
)
from robosteer_training.heads.cache import ActivationCache
from robosteer_training.heads.knn import score_heads
from robosteer_training.heads.neighbours import nearest_neighbours
from robosteer_training.heads.select import KnnSettings, select_all, select_by_knn, select_random, select_worst
from robosteer_training.heads.selection import HeadSelection
from robosteer_training.heads.source import Source
from robosteer_training.heads.uncertainty import bootstrap, permutation_null, shuffled_order, swapped_order

from .tiny_model import tiny_config

SETTINGS = KnnSettings(ks=(5,), m=2)
PLANTED = (1, 3)


def source_with(config, planted=True, episodes=8, length=30, seed=0):
    """Smooth actions; one head knows them, the others drift on their own."""
    rng = np.random.default_rng(seed)
    frames = episodes * length

    def smooth(width):
        steps = rng.normal(size=(episodes, length, width)).cumsum(1) / np.sqrt(length)
        return (steps - steps.mean((0, 1))).reshape(frames, width).astype(np.float32)

    actions = smooth(8)
    z = np.stack([np.stack([smooth(8) for _ in range(4)], 1) for _ in range(3)])
    if planted:
        z[PLANTED[0], :, PLANTED[1]] = actions + 0.05 * rng.normal(size=actions.shape)
    meta = {
        "model": config.to_json(),
        "key": "k",
        "checkpoint_digest": "c",
        "dataset_digest": "d",
        "frames": frames,
        "settings": {"positions": ["suffix.first"]},
        "shape": [frames, 3, 4, 8],
        "action_dim": 8,
        "episodes": [],
    }
    index = np.repeat(np.arange(episodes), length)
    cache = ActivationCache(
        {"suffix.first": z}, actions, index, np.ones(frames, bool), meta, np.arange(frames), Path("x")
    )
    return Source.of(cache)


@pytest.fixture(scope="module")
def source():
    return source_with(tiny_config())


def test_golden_values():
    assert coefficient_of_variation(np.array([1.0, 2.0, 3.0])) == pytest.approx(np.sqrt(2 / 3) / 2)
    assert coefficient_of_variation(np.zeros(3)) == 0
    twenty = [(i // 8, i % 8) for i in range(30)]
    # 14 of 20 shared are 54 %, 17 are 74 %: values that a share of 20 cannot take.
    assert round(100 * jaccard(twenty[:20], twenty[6:26])) == 54
    assert round(100 * jaccard(twenty[:20], twenty[3:23])) == 74
    assert jaccard([], []) == 1


@given(st.integers(2, 12), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_a_shuffle_is_a_permutation_that_keeps_most_neighbours_in_time(episodes, seed):
    index = np.repeat(np.arange(episodes), 7)
    order = shuffled_order(index, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(index)))
    assert (np.diff(order) == 1).sum() >= len(index) - 2 * episodes - 1


def test_the_null_finds_the_planted_head_and_nothing_in_shuffled_actions(source):
    found = permutation_null(source, SETTINGS, 5, permutations=99)
    p, family = np.array(found["p"]), np.array(found["p_family"])
    assert p[PLANTED] == family[PLANTED] == 0.01
    assert found["significant"] == 1
    order = shuffled_order(source.episode_index, np.random.default_rng(1))
    shuffled = dataclasses.replace(source, actions=source.actions[order])
    nothing = permutation_null(shuffled, SETTINGS, 5, permutations=99)
    assert nothing["significant"] == 0
    again = np.array(found["scores"])
    direct = score_heads(source.at("suffix.first"), source.actions, source.episode_index, m=1, ks=(5,))
    np.testing.assert_allclose(again, direct.best_scores, rtol=1e-12)


def test_a_clock_passes_the_rotated_null_but_not_the_swapped_one(source):
    """Actions that follow the same course in all episodes, and a head that only knows the time."""
    episodes, length = 8, 30
    time = np.tile(np.linspace(0, 1, length), episodes)
    course = np.stack([np.sin((i + 1) * 2 * time) for i in range(8)], 1)
    own = np.repeat(np.random.default_rng(0).normal(size=(episodes, 8)), length, axis=0)
    actions = (course + 0.5 * own).astype(np.float32)
    z = np.array(source.at("suffix.first"))
    z[0, :, 0] = np.stack([np.cos((i + 1) * time) for i in range(8)], 1)
    z[PLANTED[0], :, PLANTED[1]] = own  # knows the episode: pays in other episodes only if they resemble each other
    z[2, :, 2] = actions
    cache = dataclasses.replace(source.caches[0], arrays={"suffix.first": z}, actions=actions)
    timed = Source.of(cache)
    rotated = np.array(permutation_null(timed, SETTINGS, 5, permutations=99)["p"])
    swapped = np.array(permutation_null(timed, SETTINGS, 5, shuffle="swap", permutations=99)["p"])
    assert rotated[0, 0] == rotated[2, 2] == 0.01
    assert swapped[0, 0] > 0.05
    assert swapped[2, 2] == 0.01
    order = swapped_order(np.repeat([0, 1, 2], [4, 9, 5]), np.random.default_rng(0))
    assert len(order) == 18
    assert order.max() < 18


def test_p_values_are_uniform_where_there_is_nothing():
    found = [
        permutation_null(source_with(tiny_config(), planted=False, seed=s), SETTINGS, 5, permutations=49)["p"]
        for s in range(4)
    ]
    p = np.array(found).ravel()
    assert 0.3 < p.mean() < 0.7
    assert p.max() > 0.8


def test_the_bootstrap_is_sure_of_the_planted_head_only(source):
    chosen = select_by_knn(source, SETTINGS)
    found = bootstrap(source, SETTINGS, chosen.heads, 5, samples=200)
    share = np.array(found["in_top_m"])
    assert share[PLANTED] == 1
    assert share.sum() == pytest.approx(2)
    assert np.array(found["rank_95"])[PLANTED] == 0
    others = np.delete(share.ravel(), 7)
    assert others.max() < 1
    assert 0 < found["chosen_set_jaccard"]["mean"] <= 1
    without = bootstrap(source, dataclasses.replace(SETTINGS, exclude_dead_heads=True), chosen.heads, 5, samples=20)
    assert np.array(without["in_top_m"])[2].max() == 0
    with pytest.raises(RobosteerError, match="--samples"):
        bootstrap(source, SETTINGS, chosen.heads, 5, samples=0)


def test_stability_compares_five_variants_of_the_data(source):
    found = stability(source, SETTINGS, (1, 4))
    assert found["names"] == ["all", "seed 42", "seed 24", "first 4", "last 4"]
    one, four = (np.array(x["jaccard"]) for x in found["by_m"])
    np.testing.assert_array_equal(one, 1)  # the planted head, always
    np.testing.assert_array_equal(np.diag(four), 1)
    np.testing.assert_array_equal(four, four.T)
    assert four.min() < 1
    assert set(data_variants(np.arange(7))["last 3"]) == {4, 5, 6}
    with pytest.raises(RobosteerError, match="found 3, expected at least 4"):
        data_variants(np.arange(3))


def test_redundancy_sees_copies(source):
    z = np.array(source.at("suffix.first"))
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    z[0, :, 0] = 3 * z[1, :, 3] @ rotation
    cache = dataclasses.replace(source.caches[0], arrays={"suffix.first": z})
    found = redundancy(Source.of(cache), SETTINGS, [(0, 0), PLANTED, (2, 1)], 5)
    cka = np.array(found["cka"])
    assert cka[0, 1] == pytest.approx(1, abs=1e-4)
    assert cka[0, 2] < 0.5
    assert np.array(found["error_correlation"])[0, 1] > 0.99
    assert linear_cka(np.ones((5, 2)), np.ones((5, 2))) == 0


def test_controls_choose_what_they_say(source):
    best, worst = select_by_knn(source, SETTINGS), select_worst(source, SETTINGS)
    everything = select_all(source, dataclasses.replace(SETTINGS, m=None))
    assert best.heads[0] == PLANTED
    assert worst.heads == everything.heads[::-1][:2]
    assert everything.m == 12
    assert [worst.ranks[h] for h in worst.heads] == [0, 1]
    one, two = select_random(source, SETTINGS, 1), select_random(source, SETTINGS, 1)
    assert one.heads == two.heads
    assert select_random(source, SETTINGS, 2).heads != one.heads
    assert len({s.provenance["key"] for s in (best, worst, everything, one)}) == 4
    barred = dataclasses.replace(SETTINGS, exclude_dead_heads=True)
    for selection in (select_worst(source, barred), select_random(source, barred), select_by_knn(source, barred)):
        assert all(layer < 2 for layer, _ in selection.heads)
    with pytest.raises(RobosteerError, match="leave it out"):
        select_all(source, SETTINGS)
    with pytest.raises(RobosteerError, match=r"m: found 9, expected 1 \.\.\. 8"):
        select_random(source, dataclasses.replace(barred, m=9))


def test_overlap_refuses_other_models(source):
    a, b = select_by_knn(source, SETTINGS), select_random(source, SETTINGS)
    found = overlap({"a": a, "b": b, "c": a})
    assert found["jaccard"][0][2] == 1
    assert found["rank_correlation"][0][2] == pytest.approx(1)
    with pytest.raises(RobosteerError, match="at least two"):
        overlap({"a": a})
    other = dataclasses.replace(b, provenance=b.provenance | {"checkpoint_digest": "x"})
    with pytest.raises(RobosteerError, match="b: found a selection of another model"):
        overlap({"a": a, "b": other})
    with pytest.raises(RobosteerError, match="a score that is no number"):
        HeadSelection.from_json(a.to_json() | {"scores": [[np.nan] * 4] * 3})
    for field in ("settings", "provenance", "details"):
        with pytest.raises(RobosteerError, match=f"malformed \\({field}: found list"):
            HeadSelection.from_json(a.to_json() | {field: []})


def test_a_selection_for_one_task_is_judged_on_that_task(source):
    tasks = np.where(source.episode_index < 3, "a", "b").astype(object)
    both = dataclasses.replace(source, tasks=tasks)
    chosen = select_by_knn(both, SETTINGS, rows=both.task_rows()["a"])
    own = both.of_tasks(chosen.provenance["tasks"])
    again = permutation_null(own, SETTINGS, chosen.k, permutations=1)
    np.testing.assert_allclose(again["scores"], chosen.scores)
    assert np.unique(own.episode_index[own.rows]).tolist() == [0, 1, 2]
    # Of unknown tasks, or made on other data: then the question is what it is worth here.
    for names in ([], ["c"], ["a", "b"]):
        np.testing.assert_array_equal(both.of_tasks(names).rows, both.rows)


def test_one_episode_and_constant_actions_are_refused_everywhere(source):
    single = dataclasses.replace(source, episode_index=np.zeros_like(source.episode_index))
    still = dataclasses.replace(source, actions=np.ones_like(source.actions))
    for bad, words in ((single, "found 1, expected at least 2"), (still, "same action in every frame")):
        for run in (
            lambda s: permutation_null(s, SETTINGS, 5),
            lambda s: bootstrap(s, SETTINGS, [(0, 0)], 5),
            lambda s: redundancy(s, SETTINGS, [(0, 0)], 5),
            lambda s: select_by_knn(s, SETTINGS),
        ):
            with pytest.raises(RobosteerError, match=words):
                run(bad)
    with pytest.raises(RobosteerError, match="expected at most 210"):
        permutation_null(source, SETTINGS, 300)


def test_twenty_thousand_frames_stream_through_bounded_memory(monkeypatch):
    """Similarities never exceed a block, and predictions are kept for m heads only."""
    frames, kept, largest = 20_000, [], []
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1, frames, 2, 16)).astype(np.float32)
    actions = rng.normal(size=(frames, 2)).astype(np.float32)
    monkeypatch.setattr(neighbours_module, "_BLOCK_BYTES", 4 * 20_000 * 512)
    original = neighbours_module._best_of_rows
    monkeypatch.setattr(neighbours_module, "_best_of_rows", lambda s, c: (largest.append(s.nbytes), original(s, c))[1])
    subset = knn._Leaders.subset_error
    monkeypatch.setattr(
        knn._Leaders, "subset_error", lambda self, a: (kept.append(len(self._entries)), subset(self, a))[1]
    )
    found = score_heads(z, actions, np.arange(frames) * 40 // frames, m=1, ks=(10,))
    assert max(largest) <= 4 * 20_000 * 512
    assert kept == [1]
    assert np.isfinite(found.scores).all()


def test_the_device_program_finds_the_same_neighbours():
    rng = np.random.default_rng(3)
    z = rng.normal(size=(3, 217, 6)).astype(np.float32)
    z[1, 100:150] = z[1, :50]
    z[2] = 1
    index = np.sort(rng.integers(0, 5, 217))
    for metric in ("cosine", "euclidean"):
        host = nearest_neighbours(z, index, (3, 10, 40), metric, on_device=False)
        device = nearest_neighbours(z, index, (3, 10, 40), metric, on_device=True)
        for k in (3, 10, 40):
            np.testing.assert_array_equal(np.sort(host[:, :, :k]), np.sort(device[:, :, :k]))
