"""The arbiter: only fresh, ordered, well-formed commands of the selected source move the arm; all else ends in rest.

Regressions pinned: joints matched by order instead of name; a policy that died while moving could resume by itself; a
released clutch latched a fault in the middle of a demonstration; a clock step left every later joint state
"reordered" for ever; a guard that had been frozen went on with the old velocity after the controller had stopped the
arm.
"""

import numpy as np
import pytest

from robosteer_policy.guard.gate import Source, State
from robosteer_policy.guard.settings import GuardSettings
from robosteer_rig.errors import RobosteerError

from .gate_bench import MS, Bench
from .panda import JOINTS, READY


def test_a_command_is_matched_by_name():
    bench = Bench()
    names = JOINTS[::-1]
    for _ in range(60):
        bench.say([0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1], names=names)
        bench.period()
    np.testing.assert_allclose(bench.velocity, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])


def test_the_policys_silence_ends_in_rest_within_300_ms_and_is_latched():
    bench = Bench()
    bench.run([1.0] * 7, 0.6)
    bench.say([1.0] * 7)
    assert bench.velocity[0] == pytest.approx(1.0)
    travelled = bench.position.copy()
    assert bench.until_rest() <= 0.21
    assert np.abs(bench.position - travelled).max() < 0.13
    for _ in range(5):
        bench.period()
    assert bench.gate.state is State.FAULT
    assert "policy: no valid command for" in bench.gate.reason
    assert "state fault" in bench.say([1.0] * 7)
    for _ in range(20):
        bench.period()
    assert not bench.velocity.any()
    assert bench.gate.arm(bench.now) == ""
    bench.run([0.2] * 7, 0.5)
    assert bench.velocity[0] == pytest.approx(0.2)


def test_the_operators_silence_ends_in_rest_and_the_next_command_resumes():
    bench = Bench(Source.TELEOP)
    bench.run([1.0] * 7, 0.6, Source.TELEOP)
    assert bench.until_rest() <= 0.25
    assert bench.gate.state is State.ARMED
    bench.run([0.5] * 7, 0.6, Source.TELEOP)
    assert bench.velocity[0] == pytest.approx(0.5)


def test_a_policy_that_says_zero_may_fall_silent():
    bench = Bench()
    bench.run([0.5] * 7, 0.5)
    bench.say([0.0] * 7)
    assert bench.until_rest() < 0.1
    for _ in range(50):
        bench.period()
    assert bench.gate.state is State.ARMED


@pytest.mark.parametrize(
    ("velocity", "more", "phrase"),
    [
        ([np.nan] * 7, {}, "not finite"),
        ([0.1] * 6 + [np.inf], {}, "not finite"),
        ([0.1] * 6, {}, "6 values for 7 names"),
        ([0.1] * 6, {"names": JOINTS[:6]}, "missing joints"),
        ([0.1] * 7, {"names": ("fr3_joint1", *JOINTS[1:])}, "missing joints"),
        ([0.1] * 8, {"names": (*JOINTS, "finger")}, "unknown joints"),
        ([0.1] * 8, {"names": (*JOINTS, JOINTS[0])}, "named twice"),
        ([0.1] * 7, {"foreign": True}, "velocity only"),
        (["a"] * 7, {}, "not numbers"),
    ],
)
def test_a_malformed_command_is_dropped_and_latches_a_fault(velocity, more, phrase):
    bench = Bench()
    bench.run([0.5] * 7, 0.4)
    bench.steady += MS
    assert phrase in bench.say(velocity, **more)
    assert bench.gate.state is State.FAULT
    assert phrase in bench.gate.reason
    assert bench.until_rest() < 0.1


@pytest.mark.parametrize(
    ("age_ms", "phrase"), [(0, "duplicated"), (5, "reordered"), (150, "150 ms old"), (-40, "40 ms in the future")]
)
def test_a_badly_stamped_command_is_dropped_without_ending_the_stream(age_ms, phrase):
    bench = Bench()
    bench.run([0.5] * 7, 0.5)
    bench.say([0.5] * 7)
    assert phrase in bench.say([-2.0] * 7, age_ms=age_ms)
    bench.period()
    assert bench.velocity[0] == pytest.approx(0.5)
    assert bench.gate.state is State.ARMED


def test_a_source_that_is_not_selected_is_not_heard_and_harms_nothing():
    bench = Bench()
    for _ in range(40):
        assert "not the selected source" in bench.say([np.nan] * 7, Source.TELEOP)
        bench.period()
    assert bench.gate.state is State.ARMED
    assert not bench.velocity.any()
    assert bench.gate.counters["rejected teleop: not the selected source"] == 40


def test_a_second_publisher_on_the_selected_topic_is_a_fault():
    bench = Bench()
    bench.say([0.1] * 7, publisher=b"a")
    bench.period()
    assert "second publisher" in bench.say([2.0] * 7, publisher=b"b")
    assert bench.gate.state is State.FAULT


def test_a_change_of_source_passes_through_rest():
    bench = Bench()
    bench.run([1.0] * 7, 0.6)
    bench.gate.select(Source.TELEOP)
    seen = []
    while bench.gate.source is Source.POLICY:
        assert "hand-over" in bench.say([1.0] * 7)
        assert "not the selected" in bench.say([-1.0] * 7, Source.TELEOP)
        bench.period()
        seen.append(bench.velocity[0])
    assert seen[-1] == 0
    assert min(seen) >= 0
    bench.run([-1.0] * 7, 0.6, Source.TELEOP)
    assert bench.velocity[0] == pytest.approx(-1.0)


def test_motion_from_rest_is_ramped():
    bench = Bench()
    speeds = []
    for _ in range(40):
        bench.say([1.0] * 7)
        bench.period()
        speeds.append(bench.velocity[0])
    assert speeds[14] == pytest.approx(0.5, abs=0.05)
    assert speeds[-1] == pytest.approx(1.0)


def test_lost_joint_states_are_a_fault_and_arming_needs_fresh_ones():
    bench = Bench()
    bench.run([0.5] * 7, 0.5)
    bench.measuring = False
    for _ in range(8):
        bench.say([0.5] * 7)
        bench.period()
    assert bench.gate.state is State.FAULT
    assert "joint states: none since for" in bench.gate.reason
    bench.until_rest()
    assert "joint states" in bench.gate.arm(bench.now)
    bench.measuring = True
    bench.period()
    assert bench.gate.arm(bench.now) == ""


def test_trouble_while_nothing_moves_is_no_fault_but_nothing_moves_either():
    bench = Bench()
    bench.measuring = False
    bench.period(ms=2000)
    bench.offset += 3600 * 1000 * MS
    bench.period()
    assert bench.gate.state is State.ARMED
    assert bench.say([0.5] * 7) == "joint states are stale"
    bench.period()
    assert not bench.velocity.any()
    bench.measuring = True
    bench.period()
    bench.run([0.5] * 7, 0.5)
    assert bench.velocity[0] == pytest.approx(0.5)


def test_messages_that_waited_while_the_guard_was_not_scheduled_are_not_late():
    """After a stall the timer runs before the queue is read."""
    bench = Bench()
    bench.run([0.5] * 7, 0.5)
    bench.say([0.5] * 7)
    bench.steady += 80 * MS
    bench.gate.tick(bench.now)
    assert bench.gate.state is State.ARMED
    bench.say([0.5] * 7)
    bench.period()
    bench.run([0.5] * 7, 0.3)
    assert bench.gate.state is State.ARMED


def test_frozen_joint_states_with_a_repeated_stamp_are_a_fault():
    bench = Bench()
    stamp = bench.now.clock_ns
    bench.measuring = False
    bench.say([0.1] * 7)
    for _ in range(8):
        bench.gate.on_joint_state(stamp, JOINTS, READY, np.zeros(7), bench.now)
        bench.period()
    assert "duplicated stamp" in bench.gate.reason


@pytest.mark.parametrize("step_s", [3600, -3600])
def test_a_clock_step_is_a_fault_that_can_be_cleared(step_s):
    bench = Bench()
    bench.run([0.5] * 7, 0.5)
    bench.offset += int(step_s * 1e9)
    bench.period()
    assert bench.gate.state is State.FAULT
    assert "clock: jumped by" in bench.gate.reason
    bench.until_rest()
    assert bench.gate.arm(bench.now) == ""
    bench.run([0.5] * 7, 0.5)


def test_a_guard_that_was_frozen_starts_again_from_zero_and_latches():
    bench = Bench()
    bench.run([1.0] * 7, 0.6)
    bench.period(ms=2000)
    assert not bench.velocity.any()
    assert "not scheduled for 2.00 s" in bench.gate.reason


def test_a_short_stall_starts_again_from_rest_with_a_ramp():
    bench = Bench()
    bench.run([1.0] * 7, 0.6)
    bench.steady += 130 * MS
    bench.say([1.0] * 7)
    bench.period(ms=20)
    assert bench.gate.state is State.ARMED
    assert 0 < bench.velocity[0] < 0.1, "the controller has stopped the arm meanwhile"
    bench.run([1.0] * 7, 0.4)
    assert bench.velocity[0] == pytest.approx(1.0)


def test_a_timer_that_catches_up_does_not_step_twice():
    bench = Bench()
    bench.run([1.0] * 7, 0.05)
    before = bench.velocity
    bench.say([1.0] * 7)
    bench.period(ms=18)
    once = bench.velocity
    bench.period(ms=2)
    np.testing.assert_array_equal(bench.velocity, once)
    assert (once > before).all()


def test_disarming_comes_to_rest_and_arming_twice_is_harmless():
    bench = Bench()
    assert bench.gate.arm(bench.now) == ""
    bench.run([1.0] * 7, 0.6)
    bench.gate.disarm()
    assert "slewing to rest" in bench.gate.arm(bench.now)
    assert bench.until_rest() < 0.16
    assert bench.gate.state is State.DISARMED


def test_arming_is_refused_while_the_arm_moves():
    bench = Bench(armed=False)
    bench.steady += 10 * MS
    bench.gate.on_joint_state(bench.now.clock_ns, JOINTS, READY, [0.0] * 6 + [0.3], bench.now)
    assert "moves at 0.30 rad/s" in bench.gate.arm(bench.now)


@pytest.mark.parametrize("measured", [[], [np.nan] * 7], ids=["no velocity", "NaN"])
def test_arming_is_refused_while_the_arm_moves_although_the_driver_measures_no_velocity(measured):
    bench = Bench(armed=False)
    for k in range(5):
        bench.steady += 10 * MS
        position = READY + np.eye(7)[6] * 0.003 * k
        bench.gate.on_joint_state(bench.now.clock_ns, JOINTS, position, measured, bench.now)
    assert "moves at 0.30 rad/s" in bench.gate.arm(bench.now)
    for _ in range(2):
        bench.steady += 10 * MS
        bench.gate.on_joint_state(bench.now.clock_ns, JOINTS, READY, measured, bench.now)
    assert bench.gate.arm(bench.now) == ""


def test_gripper_keeps_its_range_and_its_hold():
    bench = Bench()
    gripper = bench.gate.gripper
    assert gripper.due(bench.steady) is None
    assert bench.gate.on_gripper(Source.POLICY, 1.04, bench.now) == ""
    assert gripper.due(bench.steady) == 1.0
    assert gripper.due(bench.steady + MS) is None
    assert gripper.due(bench.steady + 101 * MS) == 1.0
    assert bench.gate.on_gripper(Source.POLICY, 0.99, bench.now) == ""
    assert gripper.due(bench.steady + 102 * MS) is None
    assert "not the selected" in bench.gate.on_gripper(Source.TELEOP, 0.0, bench.now)
    assert "outside 0 ... 1" in bench.gate.on_gripper(Source.POLICY, 85.0, bench.now)
    assert bench.gate.state is State.FAULT
    assert gripper.due(bench.steady + 500 * MS) == 0.99


def test_settings_are_checked():
    with pytest.raises(RobosteerError, match=r"guard.hold_s: found -1"):
        GuardSettings(hold_s=-1)
    with pytest.raises(RobosteerError, match=r"guard.silence_s: found 0.04, expected at least hold_s"):
        GuardSettings(silence_s=0.04)
