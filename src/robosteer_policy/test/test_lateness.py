"""A model or a server that stalls: the old chunk is not executed for long, and a lasting stall ends the run.

Regressions pinned: an arm whose policy had stalled went on for the rest of its chunk, two thirds of a second, and the
only reason on diagnostics was the guard's, that commands had ceased; chunks that all came too late kept a run alive; a
first inference that took long ended the run before it had begun.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robosteer_policy.acting import State
from robosteer_policy.chunks import Asynchronous
from robosteer_policy.lateness import Lateness
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


@pytest.mark.parametrize(("overrun_steps", "stall_s"), [(-1, 0.5), (1, 0.0), (1, float("nan"))])
def test_wrong_settings_are_refused(overrun_steps, stall_s):
    with pytest.raises(RobosteerError, match=r"(overrun_steps|stall_s): found"):
        Lateness(T, overrun_steps, stall_s)


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
