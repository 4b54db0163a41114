"""A model or a server that stalls: the old chunk is not executed for long, and a lasting stall ends the run.

Regressions pinned: an arm whose policy had stalled went on for the rest of its chunk, two thirds of a second, and the
only reason on diagnostics was the guard's, that commands had ceased; chunks that all came too late kept a run alive; a
first inference that took long ended the run before it had begun; the first chunk of a synchronous run moved the arm
however late it came, and so did the one of a node that had not been scheduled; one stall taught patience with the next.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robosteer_policy.acting import State
from robosteer_policy.chunks import Asynchronous, Synchronous
from robosteer_policy.lateness import Lateness
from robosteer_policy.strategies import Ensembling, RealTime
from robosteer_rig.errors import RobosteerError

from .test_agent import MS, Bench

T = 66_666_667


def lateness(overrun_steps=1, stall_s=0.5):
    late = Lateness(T, overrun_steps, stall_s)
    late.accepted()
    return late


@pytest.mark.parametrize(("slow_ms", "steps"), [(0, 1), (5, 1), (66, 1), (67, 2), (300, 5)])
@pytest.mark.parametrize("overrun", [0, 1, 3])
def test_a_slow_inference_has_its_time_in_whole_periods_and_then_the_overrun(slow_ms, steps, overrun):
    late = lateness(overrun)
    late.asked(7, slow_ms * MS)
    limit = 7 + (steps + overrun) * T
    assert [late.late(limit - 1), late.late(limit), late.late(limit + T)] == [False, True, True]
    assert late.pauses == 1
    assert late.stalled(limit + 500 * MS - 1) == ""
    assert "inference: no new actions for" in late.stalled(limit + 500 * MS)
    late.accepted()
    assert not late.late(limit + 10 * T), "nothing is due before it has been asked for"
    late.asked(limit + 10 * T, slow_ms * MS)
    assert not late.late(limit + 10 * T)


def test_asking_again_does_not_forgive_a_chunk_that_never_came():
    late = lateness()
    for k in range(20):
        late.asked(k * T, 10 * MS)
        assert late.late(k * T) == (k >= 2)
    assert late.pauses == 1
    assert late.stalled(20 * T).startswith("inference: no new actions for 1.33 s, expected them in 0.07 s; look at")


def test_before_the_first_chunk_nothing_is_late():
    late = lateness()
    late.begin()
    late.asked(0, 10 * MS)
    assert (late.late(100 * T), late.stalled(100 * T)) == (False, "")


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 90)), max_size=20), st.integers(0, 3))
def test_the_arm_is_never_led_longer_by_an_old_chunk_than_was_promised(story, overrun):
    """Inferences are asked for at any time, and answered after any time."""
    late, now = lateness(overrun), 0
    for slow_ms, looks in story:
        late.asked(now, slow_ms * MS)
        led = [k for k in range(looks) if not late.late(now + k * 10 * MS)]
        assert len(led) * 10 * MS <= (-(-slow_ms * MS // T) + overrun) * T + 10 * MS
        assert led == list(range(len(led))), "rest lasts until a chunk comes"
        now += looks * 10 * MS
        late.accepted()


@pytest.mark.parametrize(
    ("settings", "field"),
    [((-1,), "overrun_steps"), ((1, 0.0), "stall_s"), ((1, float("nan")), "stall_s")]
    + [((1, 0.5, age_s), "max_observation_age_s") for age_s in (0.0, -1.0, float("nan"), float("inf"))],
)
def test_wrong_settings_are_refused(settings, field):
    with pytest.raises(RobosteerError, match=f"^{field}: found"):
        Lateness(T, *settings)


def test_a_chunk_is_too_old_by_the_age_of_its_observation_and_then_the_next_one_is_waited_for():
    late = Lateness(T, 1, 0.5, 0.8)
    assert late.too_old(7, 7 + 800 * MS) == ""
    late.asked(0, 10 * MS)
    assert late.stalled(100 * T) == "", "the first is not waited for"
    assert late.too_old(7, 8 + 800 * MS) == "discarded actions for an observation 0.80 s old, limit 0.80 s"
    assert late.discarded == 1
    late.asked(0, 3000 * MS)
    wait = 12 * T + T + 500 * MS
    assert late.stalled(wait - 1) == "", "no inference slower than 0.8 s, 12 periods, is waited for"
    assert "0.80 s, discarded actions for an observation 0.80 s old" in late.stalled(wait)
    late.accepted()
    late.asked(wait, 10 * MS)
    assert "discarded" not in late.stalled(wait + 100 * T)


class Stalling(Bench):
    """Replans at every step; the test decides whether the inference under way ends."""

    slow_ns = 20 * MS

    def __init__(self):
        super().__init__()
        self.acting._make_strategy = lambda: Asynchronous(1)

    def follow(self, periods):
        """Answered inferences and the actions taken meanwhile."""
        for _ in range(periods):
            self.answer()
            assert self.step().action.velocity.any()


def test_a_stalled_inference_means_rest_after_one_more_action_and_the_end_after_half_a_second():
    bench = Stalling()
    bench.run()
    bench.follow(5)
    asked = bench.now
    led = 0
    while (action := bench.step().action).velocity.any():
        led += 1
    assert led == 1
    assert action.gripper is None
    assert not bench.acting.watch(bench.now + 1).velocity.any()
    assert bench.acting.state is State.RUNNING
    while bench.acting.state is State.RUNNING:
        assert not bench.step().action.velocity.any()
    assert 0.63 <= (bench.now - asked) * 1e-9 <= 0.71
    assert bench.acting.reason.startswith("inference: no new actions for 0.")
    bench.answer()
    assert bench.step().action is None, "the chunk comes at last, and is void"
    assert bench.acting.enable(bench.now) == ""


def test_a_short_stall_ends_by_itself_and_is_counted():
    bench = Stalling()
    bench.run()
    bench.follow(5)
    for _ in range(4):
        action = bench.step().action
    assert not action.velocity.any()
    bench.follow(3)
    assert (bench.acting.state, bench.acting.lateness.pauses) == (State.RUNNING, 1)


def test_between_two_steps_a_stall_is_noticed_and_an_answer_that_waits_is_none():
    bench = Stalling()
    bench.run()
    bench.follow(5)
    assert bench.acting.watch(bench.now + 2 * T) is not None
    bench.answer()
    assert bench.acting.watch(bench.now + 2 * T) is None
    assert bench.step().action.velocity.any()


class Hanging(Bench):
    """Has just been enabled and is computing its first chunk."""

    slow_ns = 20 * MS

    def __init__(self, kind=Synchronous):
        super().__init__()
        self.acting._make_strategy = lambda: kind(4)
        self.step()
        assert self.acting.enable(self.now) == ""
        self.step()

    def passes(self, seconds):
        """Time in which nobody looked: a node that was not scheduled."""
        self.now += round(seconds * 1e9)

    def moves(self):
        action = self.step().action
        return action is not None and bool(action.velocity.any())


@pytest.mark.parametrize("looked", [True, False], ids=["the model hung", "the whole node hung"])
@pytest.mark.parametrize("kind", [Synchronous, Asynchronous, Ensembling, RealTime])
def test_a_first_chunk_that_comes_too_late_moves_nothing_and_a_fresh_one_does(kind, looked):
    bench = Hanging(kind)
    if not looked:
        bench.passes(2.0)
    while bench.now - bench.asked[-1].frame.stamp_ns < 2000 * MS:
        assert not bench.moves()
    bench.answer()
    step = bench.step()
    assert (step.action is None, step.accepted, step.finished is None) == (True, False, False)
    assert bench.acting.state is State.RUNNING
    assert bench.acting.reason.startswith("discarded actions for an observation 2.")
    assert (bench.acting.chunks, bench.acting.lateness.discarded) == (0, 1)
    bench.answer()
    assert bench.moves()
    assert (bench.acting.reason, bench.acting.chunks) == ("acting", 1)


def test_a_run_of_which_every_chunk_comes_too_late_ends_and_says_why():
    bench = Hanging()
    for _ in range(3):
        while bench.busy and bench.now - bench.asked[-1].frame.stamp_ns < 2000 * MS:
            assert not bench.moves()
        if bench.acting.state is State.RUNNING:
            bench.answer()
            assert not bench.moves()
    assert bench.acting.state is State.STOPPED
    assert bench.asked[-1].sequence == 2
    assert "discarded actions for an observation 2." in bench.acting.reason


@pytest.mark.parametrize("looked", [True, False], ids=["the model hung", "the whole node hung"])
def test_a_chunk_that_comes_too_late_between_two_chunks_moves_nothing_and_ends_the_run(looked):
    bench = Hanging()
    bench.answer()
    while not bench.busy:
        bench.step()
    if not looked:
        bench.passes(2.0)
    for _ in range(30):
        assert not bench.moves()
    bench.answer()
    assert not bench.moves()
    assert not bench.moves()
    assert bench.acting.state is State.STOPPED
    assert bench.acting.reason.startswith("inference: no new actions for ")
    assert bench.acting.enable(bench.now) == ""


@given(st.lists(st.integers(0, 3000), max_size=12), st.sampled_from([Synchronous, Asynchronous, Ensembling]))
def test_whatever_an_inference_takes_no_motion_begins_with_what_was_seen_longer_ago_than_the_limit(waits, kind):
    bench, begun = Hanging(kind), -1
    for wait_ms in waits:
        if bench.busy:
            bench.passes(wait_ms / 1000)
            bench.answer()
        action = bench.step().action
        if action is not None and action.velocity.any() and action.chunk_stamp_ns > begun:
            begun = action.chunk_stamp_ns
            assert bench.now - begun <= 1000 * MS
        if bench.acting.state is not State.RUNNING:
            assert bench.acting.enable(bench.now) == ""
