"""The control core as a whole.

Pins: motion on the first squeeze; a clutch that re-engages by itself after a stall while the grip is still held; a
target that returns to the measured pose when let go (the arm sags); a jump of the target when the arm was moved by
hand; and, for any sequence of inputs, a target faster than its limits, outside the box or beyond the leash.
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.control.core import TICK_S, Target, TeleopCore
from robosteer_teleop.control.frames import Pose
from robosteer_teleop.control.presets import LIMITS, SCALINGS, Bounds
from robosteer_teleop.control.rotations import angle_between, exp, length, quaternion_from_matrix

from .hand import DOWN, HOME, UNIT, Operator, operator


def position(target: Target) -> np.ndarray:
    assert target.motion is not None
    return target.motion.pose.position


def test_the_first_squeeze_never_moves_and_the_hand_does() -> None:
    hand = operator()
    hand.offset = np.array([3.0, 2.0, 1.0])
    hand.engage()
    assert hand.core.engaged
    np.testing.assert_allclose(position(hand.targets[-1]), HOME.position, atol=1e-9)
    hand.run(0.5, (0.1, 0.0, 0.05))
    hand.run(0.3)
    np.testing.assert_allclose(position(hand.targets[-1]), HOME.position + np.array([0.05, 0.0, 0.025]), atol=1e-3)


@pytest.mark.parametrize("yaw", [0.0, 0.7, -2.0])
def test_turning_the_hand_about_world_up_turns_the_tool_about_base_z(yaw: float) -> None:
    hand = operator(yaw=yaw)
    hand.engage()
    for k in range(1, 61):
        hand.run(0.015, quaternion=quaternion_from_matrix(exp(np.array([0.0, 0.3 * k / 60, 0.0]))))
    hand.run(1.0, quaternion=quaternion_from_matrix(exp(np.array([0.0, 0.3, 0.0]))))
    motion = hand.targets[-1].motion
    assert motion is not None
    np.testing.assert_allclose(motion.pose.rotation, exp(np.array([0.0, 0.0, 0.3])) @ DOWN, atol=2e-3)


def test_scaling_is_for_an_open_clutch() -> None:
    hand = operator(scaling=SCALINGS["precision"])
    hand.engage()
    hand.run(0.5, (0.1, 0.0, 0.0))
    hand.run(0.3)
    np.testing.assert_allclose(position(hand.targets[-1])[0] - HOME.position[0], 0.4 * 0.05, atol=1e-3)
    with pytest.raises(RobosteerError, match="let the grip go first"):
        hand.core.set_scaling(SCALINGS["full"])
    with pytest.raises(RobosteerError, match="let the grip go first"):
        hand.core.align(UNIT)


def fault_pose_lost(hand: Operator) -> None:
    hand.run(0.02, tracked=False)


def fault_pose_not_finite(hand: Operator) -> None:
    hand.run(0.02, position=np.array([math.nan, 0, 0]))


def fault_hidden(hand: Operator) -> None:
    hand.run(0.02, visible=False)


def fault_frozen(hand: Operator) -> None:
    hand.silent = True
    hand.run(0.4)
    hand.silent = False


def fault_recentred(hand: Operator) -> None:
    hand.core.recentred()
    hand.core.align(UNIT)


def fault_disconnected(hand: Operator) -> None:
    hand.core.fault("link")


def fault_reconnected(hand: Operator) -> None:
    hand.core.connect()
    hand.sequence = -1


def fault_robot_state_lost(hand: Operator) -> None:
    hand.core.tick(hand.now, None)


def fault_disarmed(hand: Operator) -> None:
    hand.core.enable(False)
    hand.core.enable(True)


def fault_jump(hand: Operator) -> None:
    hand.offset = hand.offset + np.array([0.5, 0.0, 0.0])
    hand.run(0.15)


def fault_emulated(hand: Operator) -> None:
    hand.run(0.25, emulated=True)


FAULTS = [value for name, value in list(globals().items()) if name.startswith("fault_")]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_every_fault_stops_at_once_and_needs_a_fresh_press(fault) -> None:
    hand = operator()
    hand.engage()
    hand.run(0.3, (0.2, 0.0, 0.0))
    moving = hand.targets[-1].motion
    assert moving is not None
    assert length(moving.linear) > 0.1
    before = len(hand.targets)
    fault(hand)
    assert not hand.core.engaged
    # Motion stopped within 100 ms of the last good frame (jumps and dead reckoning: held at once, so it only coasts
    # to the last believed goal).
    since = [t for t in hand.targets[before + round(0.105 / TICK_S) :] if t.motion is not None]
    assert all(length(t.motion.linear) < 1e-3 for t in since)
    stopped = position(hand.core.tick(hand.now, hand.measured))
    hand.run(0.5, (0.1, 0.0, 0.0))  # the grip is still held
    assert not hand.core.engaged
    np.testing.assert_array_equal(position(hand.targets[-1]), stopped)
    hand.engage()
    assert hand.core.engaged
    assert hand.core.openings == 1


def test_recentring_demands_an_alignment() -> None:
    hand = operator()
    hand.engage()
    hand.core.recentred()
    hand.engage()
    assert not hand.core.engaged
    assert hand.core.why_not() == "not aligned"
    hand.core.align(UNIT)
    assert hand.core.why_not() == ""
    hand.run(0.1)
    assert not hand.core.engaged  # the squeeze of before does not count
    hand.engage()
    assert hand.core.engaged


def test_nothing_moves_while_disabled() -> None:
    hand = operator()
    hand.core.enable(False)
    hand.engage()
    hand.run(0.3, (0.2, 0, 0))
    np.testing.assert_array_equal(position(hand.targets[-1]), HOME.position)
    hand.core.enable(True)
    hand.run(0.3, (0.2, 0, 0))
    assert not hand.core.engaged


def test_letting_go_keeps_the_spring_loaded_but_not_far_away() -> None:
    hand = operator()
    hand.blocked = True  # the arm presses on something
    hand.engage()
    hand.run(0.3, (0.0, 0.0, -0.1))
    held = position(hand.targets[-1])
    assert 0.015 < HOME.position[2] - held[2] < 0.030
    hand.squeeze = 0.0
    hand.run(0.5)
    np.testing.assert_array_equal(position(hand.targets[-1])[:2], held[:2])
    hand.engage()
    np.testing.assert_allclose(position(hand.targets[-1]), held, atol=2e-3)  # same load as before
    hand.squeeze = 0.0
    hand.run(0.1)
    hand.measured = Pose(HOME.position + np.array([0.0, 0.1, 0.0]), DOWN)  # somebody pushed the arm
    hand.engage()
    hand.run(1.0)
    np.testing.assert_allclose(position(hand.targets[-1]), hand.measured.position, atol=1e-3)
    steps = np.diff([position(t) for t in hand.targets], axis=0)
    assert np.linalg.norm(steps, axis=1).max() <= LIMITS["teach"].speed * TICK_S + 1e-12


def test_an_output_without_a_held_pose_starts_from_the_arm() -> None:
    hand = operator(follow_measured=True)
    hand.run(0.05)
    hand.measured = Pose(HOME.position + np.array([0.0, 0.2, 0.0]), DOWN)
    hand.run(0.01)
    hand.engage()
    np.testing.assert_allclose(position(hand.targets[-1]), hand.measured.position, atol=1e-9)


def test_the_gripper_follows_the_trigger_while_engaged_only() -> None:
    hand = operator()
    hand.trigger = 1.0
    hand.run(0.1)
    assert hand.targets[-1].gripper is None
    hand.engage()
    assert hand.targets[-1].gripper == 1.0
    hand.core.fault("link")
    hand.trigger = 0.0
    hand.run(0.1)
    assert hand.targets[-1].gripper == 1.0  # what is held stays held


def test_flags_say_what_holds_the_target_back() -> None:
    hand = operator(bounds=Bounds(lower=(0.3, -0.1, 0.2), upper=(0.5, 0.1, 0.5)))
    hand.engage()
    hand.run(0.3, (0.0, 0.8, 0.0))
    assert "speed" in hand.targets[-1].flags.names()
    hand.run(1.0)
    assert hand.targets[-1].flags.names() == ["box"]
    assert position(hand.targets[-1])[1] == pytest.approx(0.1, abs=1e-6)
    assert hand.core.tick(hand.now, hand.measured, slow=0.5).flags.joint


# Any input ----------------------------------------------------------------------------------------------------------

wild = st.floats(-2.0, 2.0) | st.sampled_from([math.nan, math.inf, 0.0])
moves = st.fixed_dictionaries(
    {
        "velocity": st.tuples(*[st.floats(-4.0, 4.0)] * 3),
        "turn": st.tuples(*[st.floats(-3.0, 3.0)] * 3),
        "jump": st.just(np.zeros(3)) | st.tuples(wild, wild, wild).map(np.array),
        "squeeze": st.sampled_from([1.0, 1.0, 1.0, 0.0]),
        "duration": st.sampled_from([0.015, 0.05, 0.1, 0.3, 0.7]),
        "fault": st.sampled_from(["", "", "", "", "silent", "tracked", "visible", "emulated", "link", "none"]),
        "slow": st.sampled_from([1.0, 1.0, 0.2]),
        "push": st.sampled_from([None, None, None, (0.06, 0.0, 0.0), (0.0, -0.2, 0.1)]),
    }
)


def play(core: TeleopCore, script: list[dict], *, follows: float) -> list[tuple[Target, Pose]]:
    """Run a script; `follows` is how much of the way to the target the arm covers in a tick."""
    hand, measured, history = Operator(core), HOME, []
    hand.engage()
    turn = np.zeros(3)
    for move in script:
        hand.squeeze = move["squeeze"]
        hand.offset = hand.offset + np.nan_to_num(move["jump"], nan=0.0, posinf=9.0)
        measured = measured if move["push"] is None else Pose(measured.position + move["push"], measured.rotation)
        if move["fault"] == "link":
            core.connect()
        for _ in range(round(move["duration"] / TICK_S)):
            hand.now += TICK_S
            hand.offset = hand.offset + np.array(move["velocity"]) * TICK_S
            turn = turn + np.array(move["turn"]) * TICK_S
            if move["fault"] != "silent":
                changes: dict = {"quaternion": quaternion_from_matrix(exp(turn))}
                if move["fault"] in ("tracked", "visible"):
                    changes[move["fault"]] = False
                changes["emulated"] = move["fault"] == "emulated"
                if not np.isfinite(move["jump"]).all():
                    changes["position"] = move["jump"]
                core.frame(hand.sample(**changes), hand.now)
            target = core.tick(hand.now, None if move["fault"] == "none" else measured, slow=move["slow"])
            assert target.motion is not None
            history.append((target, measured))
            pose = target.motion.pose
            measured = Pose(measured.position + follows * (pose.position - measured.position), pose.rotation)
    return history


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    script=st.lists(moves, min_size=1, max_size=12),
    name=st.sampled_from(sorted(LIMITS)),
    follows=st.sampled_from([0.0, 0.05, 1.0]),
)
def test_no_input_makes_the_target_break_its_limits(script: list[dict], name: str, follows: float) -> None:
    bounds, limits = Bounds(lower=(0.3, -0.2, 0.2), upper=(0.6, 0.2, 0.5)), LIMITS[name]
    core = operator(bounds=bounds, limits=limits).core
    history = play(core, script, follows=follows)
    pushed = any(move["push"] for move in script)
    for (before, _), (after, measured) in itertools.pairwise(history):
        old, new = before.motion, after.motion
        assert old is not None
        assert new is not None
        assert length(new.pose.position - old.pose.position) <= limits.speed * TICK_S + 1e-9
        assert angle_between(new.pose.rotation, old.pose.rotation) <= limits.angular_speed * TICK_S + 1e-7
        if after.engaged:  # opening the clutch stops the target at once
            assert length(new.linear - old.linear) <= limits.acceleration * TICK_S + 1e-9
            assert length(new.angular - old.angular) <= limits.angular_acceleration * TICK_S + 1e-7
        assert (new.pose.position >= np.array(bounds.lower) - 1e-6).all()
        assert (new.pose.position <= np.array(bounds.upper) + 1e-6).all()
        if not pushed:
            assert length(new.pose.position - measured.position) <= bounds.leash_m + 1e-5
            assert angle_between(new.pose.rotation, measured.rotation) <= bounds.leash_rad + 1e-4


@settings(max_examples=20, deadline=None)
@given(script=st.lists(moves, min_size=1, max_size=6))
def test_the_same_calls_give_the_same_target_bit_for_bit(script: list[dict]) -> None:
    runs = [play(operator().core, script, follows=0.05) for _ in range(2)]
    for (a, _), (b, _) in zip(*runs, strict=True):
        assert a.motion is not None
        assert b.motion is not None
        assert a.motion.pose.position.tobytes() == b.motion.pose.position.tobytes()
        assert a.motion.pose.rotation.tobytes() == b.motion.pose.rotation.tobytes()
