"""Execution strategies against delayed, lost, duplicated and reordered chunks.

Regressions pinned: a chunk that arrived late was played from its first action, so that the arm repeated the past; an
old chunk that overtook a newer one replaced it; actions went on past the end of a chunk when inference stalled.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robosteer_policy.chunks import Asynchronous, Chunk, Synchronous, index_at
from robosteer_policy.strategies import (
    Continuation,
    Ensembling,
    RealTime,
    continuation,
    ensemble,
    guide_weights,
    moved,
)

T = 66_666_667
H = 10


def chunk(stamp_ns: int, horizon: int = H) -> Chunk:
    """Actions that tell the time they are meant for: velocity[k] = stamp + k T in periods."""
    steps = stamp_ns / T + np.arange(horizon)
    return Chunk(stamp_ns, np.repeat(steps[:, None], 7, axis=1), np.linspace(0, 1, horizon), T)


def test_index_at_has_half_open_intervals():
    assert [index_at(100, 10, 3, t) for t in (99, 100, 109, 110, 129, 130)] == [None, 0, 0, 1, 2, None]


def test_overlap_plays_each_action_at_its_own_time_whatever_the_delay():
    strategy = Asynchronous(8)
    assert strategy.action(0) is None
    assert strategy.offer(chunk(0), int(2.4 * T))
    for step in (2.4, 3.0, 9.99):
        action = strategy.action(int(step * T) + 1)
        assert action.index == int(step)
        np.testing.assert_allclose(action.velocity, int(step))
    assert strategy.action(10 * T) is None


def test_the_newest_observation_rules():
    strategy = Asynchronous(8)
    assert strategy.offer(chunk(4 * T), 5 * T)
    assert not strategy.offer(chunk(2 * T), 6 * T), "reordered"
    assert not strategy.offer(chunk(4 * T), 6 * T), "duplicated"
    assert strategy.action(6 * T).chunk_stamp_ns == 4 * T
    assert strategy.offer(chunk(5 * T), 7 * T)
    assert strategy.action(7 * T).index == 2


def test_a_chunk_that_has_run_out_before_it_arrives_is_refused():
    strategy = Asynchronous(8)
    assert not strategy.offer(chunk(0), H * T)
    assert strategy.action(H * T) is None
    assert strategy.due(H * T, 0)


def test_inference_starts_so_that_the_next_chunk_arrives_in_time():
    strategy = Asynchronous(8)
    strategy.offer(chunk(0), T)
    assert not strategy.due(5 * T - 1, 2 * T)
    assert strategy.due(5 * T, 2 * T), "ready at 7 T, looked for at 7 T or 8 T"
    eager = Asynchronous(1)
    eager.offer(chunk(0), T)
    assert eager.due(T, 0)


def test_more_steps_than_the_horizon_mean_the_horizon():
    strategy = Asynchronous(50)
    strategy.offer(chunk(0), T)
    assert strategy.due(H * T, 0)


def test_synchronous_executes_n_then_rests_while_the_next_is_computed():
    strategy = Synchronous(4)
    assert strategy.due(0, 0)
    assert strategy.action(0) is None
    assert strategy.offer(chunk(0), 3 * T)
    assert [strategy.action((3 + k) * T).index for k in range(4)] == [0, 1, 2, 3]
    assert not strategy.due(6 * T, 10 * T)
    assert not strategy.offer(chunk(4 * T), 5 * T), "not asked for"
    assert strategy.due(7 * T, 0)
    pause = strategy.action(7 * T)
    assert (pause.index, pause.gripper, pause.velocity.any()) == (-1, None, False)
    assert strategy.offer(chunk(7 * T), 9 * T)
    assert strategy.action(9 * T).index == 0
    assert strategy.action(99 * T).index == -1, "the next inference never came back"


KINDS = [Asynchronous, Synchronous, Ensembling, RealTime]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 14), st.sampled_from([0, 1, 2])), max_size=30),
    st.sampled_from(KINDS),
    st.integers(1, 12),
)
def test_no_story_of_the_network_plays_an_action_at_a_wrong_time(story, kind, steps):
    """Chunks are observed every few steps, each delayed by 0 ... 14 steps, lost or duplicated; delays reorder them."""
    strategy = kind(steps)
    observed, arrivals = 0, []
    for gap, delay, copies in story:
        observed += gap
        arrivals += [(observed + delay + copy, observed) for copy in range(copies)]
    newest = -1
    for now in range(observed + 30):
        for _, stamp in sorted(a for a in arrivals if a[0] == now):
            if strategy.offer(chunk(stamp * T), now * T):
                assert stamp > newest
                newest = stamp
        action = strategy.action(now * T)
        if action is None or action.index < 0:
            continue
        assert action.chunk_stamp_ns == newest * T
        assert 0 <= action.index < min(H, steps if kind is Synchronous else H)
        if kind is Synchronous:
            np.testing.assert_allclose(action.velocity, newest + action.index)
        else:
            np.testing.assert_allclose(action.velocity, now)
    assert strategy.due((observed + 30) * T, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_inference_is_due_at_once_and_continues_nothing(kind):
    assert kind(3).due(0, 0)
    assert kind(3).continues(0, 0) is None


def test_the_ensemble_is_a_weighted_mean_of_what_is_said_about_now():
    old, new = chunk(0), chunk(2 * T)
    old = Chunk(0, old.velocity + 1.0, old.gripper, T)
    action = ensemble([old, new], 3 * T, np.log(3.0))
    np.testing.assert_allclose(action.velocity, 3 + 0.75, err_msg="exp(0) and exp(-log 3), normalised")
    assert ensemble([old], H * T, 0.1) is None
    assert ensemble([], 0, 0.1) is None


def test_a_continuation_counts_the_steps_that_the_old_chunk_will_have_executed():
    old = Chunk(0, np.zeros((H, 7)), np.zeros(H), T, sequence=7)
    assert continuation(old, 3 * T, int(1.5 * T)) == Continuation(7, shift=3, delay=3)
    assert continuation(old, 3 * T, 50 * T) == Continuation(7, shift=3, delay=7), "no more than is left"
    assert continuation(old, H * T, 0) is None
    strategy = RealTime(4)
    strategy.offer(old, T)
    assert strategy.continues(2 * T, 0) == Continuation(7, shift=2, delay=1)


def test_the_old_chunk_is_moved_to_the_times_of_the_new_one():
    previous = np.arange(H)[:, None] * 1.0
    assert moved(previous, 3)[:4, 0].tolist() == [3, 4, 5, 6]
    assert moved(previous, 3)[-3:, 0].tolist() == [9, 9, 9]


@given(st.integers(1, 50), st.data())
def test_guide_weights_freeze_then_fall_then_free(horizon, data):
    shift = data.draw(st.integers(0, horizon - 1))
    delay = data.draw(st.integers(1, horizon - shift))
    weights = guide_weights(horizon, shift, delay)
    assert (weights[:delay] == 1).all()
    assert (weights[horizon - shift :] == 0).all()
    assert (np.diff(weights) <= 0).all()
    middle = weights[delay : horizon - shift]
    assert ((middle > 0) & (middle < 1)).all()
