"""The parts of the control core one by one.

Pins: a quaternion formula that maps axes wrongly; half turns (a gripper that points down) that lose their axis; a yaw
alignment that tips the vertical over; the textbook braking speed that overshoots; a filter that bends directions; a
jump that becomes plausible by waiting.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robosteer_rig.errors import RobosteerError
from robosteer_rig.kinematics import forward_kinematics, jacobian, manipulability
from robosteer_teleop.control.arm_model import ArmModel
from robosteer_teleop.control.clutch import Clutch, ClutchEvent
from robosteer_teleop.control.frames import XR_TO_ROS, Alignment, Pose, align
from robosteer_teleop.control.gates import HandSample, InputGate, Verdict
from robosteer_teleop.control.gripper import Binary, streamed
from robosteer_teleop.control.limiter import PoseLimiter, approach_speed, braking_distance
from robosteer_teleop.control.one_euro import OneEuro, PoseFilter
from robosteer_teleop.control.presets import LIMITS, Bounds, MotionLimits, Scaling, choose
from robosteer_teleop.control.rotations import (
    IDENTITY,
    angle_between,
    exp,
    length,
    log,
    matrix_from_quaternion,
    quaternion_from_matrix,
)

numbers = st.floats(-1.0, 1.0)
quaternions = st.tuples(numbers, numbers, numbers, numbers).filter(lambda q: math.hypot(*q) > 0.1)
HALF_TURN = st.sampled_from([(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (1, 1, 0, 1e-9), (0.6, 0, 0.8, -1e-12)])


@given(quaternions | HALF_TURN)
def test_rotations_survive_the_way_through_quaternion_and_vector(q: tuple[float, ...]) -> None:
    matrix = matrix_from_quaternion(q)
    np.testing.assert_allclose(matrix @ matrix.T, IDENTITY, atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1.0)
    np.testing.assert_allclose(matrix_from_quaternion(quaternion_from_matrix(matrix)), matrix, atol=1e-12)
    np.testing.assert_allclose(exp(log(matrix)), matrix, atol=1e-9)
    assert length(log(matrix)) <= math.pi + 1e-12


@given(quaternions)
def test_axes_change_as_the_quaternion_rule_says(q: tuple[float, ...]) -> None:
    """(x, y, z, w) in WebXR is (-z, -x, y, w) in the robot's axes."""
    x, y, z, w = np.array(q) / math.hypot(*q)
    found = Alignment(0.0).to_base(np.array([0.1, 0.2, 0.3]), np.array(q))
    np.testing.assert_allclose(found.rotation, matrix_from_quaternion((-z, -x, y, w)), atol=1e-12)
    np.testing.assert_allclose(found.position, [-0.3, -0.1, 0.2])
    assert np.linalg.det(XR_TO_ROS) == pytest.approx(1.0)


@given(st.floats(-3.1, 3.1), st.floats(-0.7, 0.7), st.floats(-3.0, 3.0))
def test_alignment_takes_the_yaw_only(yaw: float, pitch: float, roll: float) -> None:
    """However the controller is tilted, up stays up and the ray's horizontal direction becomes the robot's x."""
    turn = exp(np.array([0, yaw, 0.0])) @ exp(np.array([pitch, 0.0, 0])) @ exp(np.array([0, 0, roll]))
    found = align(quaternion_from_matrix(turn)).matrix
    np.testing.assert_allclose(found @ [0.0, 1.0, 0.0], [0, 0, 1], atol=1e-12)
    ray = found @ turn @ np.array([0.0, 0.0, -1.0])
    assert ray[1] == pytest.approx(0.0, abs=1e-9)
    assert ray[0] > 0


def test_alignment_refuses_a_steep_controller() -> None:
    steep = quaternion_from_matrix(exp(np.array([math.radians(-50.0), 0, 0])))
    with pytest.raises(RobosteerError, match="50 deg from horizontal"):
        align(steep)


def test_clutch_never_engages_on_a_held_grip() -> None:
    clutch = Clutch()
    assert clutch.update(1.0, allowed=True) is None  # squeezed since before the start
    clutch.update(0.0, allowed=True)
    assert clutch.update(1.0, allowed=True) is ClutchEvent.ENGAGED
    assert clutch.update(0.6, allowed=True) is None  # hysteresis
    assert clutch.fault()
    assert clutch.update(1.0, allowed=True) is None
    assert clutch.update(0.4, allowed=True) is None
    assert clutch.update(0.9, allowed=False) is None  # a squeeze in vain is lost
    assert clutch.update(0.9, allowed=True) is None
    clutch.update(0.0, allowed=True)
    assert clutch.update(0.9, allowed=True) is ClutchEvent.ENGAGED
    assert clutch.update(0.49, allowed=True) is ClutchEvent.RELEASED


def sample(sequence: int, time_s: float, x: float, **changes: object) -> HandSample:
    values: dict = {"visible": True, "tracked": True, "emulated": False, "squeeze": 1.0, "trigger": 0.0}
    pose = {"position": np.array([x, 0, 0]), "quaternion": np.array([0, 0, 0, 1.0])}
    return HandSample(sequence=sequence, time_s=time_s, **(values | pose | changes))


def judge(gate: InputGate, hand: HandSample) -> Verdict:
    return gate.judge(hand, Pose(hand.position, IDENTITY), hand.time_s).verdict


def test_a_persistent_jump_does_not_become_plausible_by_waiting() -> None:
    gate = InputGate()
    assert judge(gate, sample(0, 0.0, 0.0)) is Verdict.ACCEPT
    for i in range(1, 8):
        assert judge(gate, sample(i, i / 72, 0.3)) is Verdict.HOLD
    for i in range(8, 9):  # rejected for more than 100 ms
        assert judge(gate, sample(i, i / 72 + 0.02, 0.3)) is Verdict.FAULT
    assert judge(gate, sample(20, 1.0, 0.3)) is Verdict.ACCEPT  # where the hand is now
    assert gate.counts.jumps == 8


def test_antipodal_quaternions_are_no_jump() -> None:
    gate = InputGate()
    first = Pose(np.zeros(3), matrix_from_quaternion((0.1, 0.2, 0.3, 0.9)))
    second = Pose(np.zeros(3), matrix_from_quaternion((-0.1, -0.2, -0.3, -0.9)))
    assert gate.judge(sample(0, 0.0, 0), first, 0.0).verdict is Verdict.ACCEPT
    assert gate.judge(sample(1, 0.014, 0), second, 0.014).verdict is Verdict.ACCEPT


def test_emulated_counts_only_after_a_real_pose_and_faults_after_200_ms() -> None:
    gate = InputGate()
    assert judge(gate, sample(0, 0.0, 0, emulated=True)) is Verdict.ACCEPT  # this runtime says so of every pose
    assert judge(gate, sample(1, 0.01, 0)) is Verdict.ACCEPT
    assert judge(gate, sample(2, 0.02, 0, emulated=True)) is Verdict.HOLD
    assert judge(gate, sample(3, 0.21, 0, emulated=True)) is Verdict.HOLD
    assert judge(gate, sample(4, 0.23, 0, emulated=True)) is Verdict.FAULT


def test_late_and_repeated_frames_are_as_if_they_had_not_come() -> None:
    gate = InputGate()
    assert judge(gate, sample(5, 1.0, 0)) is Verdict.ACCEPT
    assert judge(gate, sample(5, 1.1, 0)) is Verdict.IGNORE
    assert judge(gate, sample(6, 0.9, 0, visible=False)) is Verdict.IGNORE
    assert judge(gate, sample(7, 1.2, 0, visible=False)) is Verdict.FAULT
    gate.restart()
    assert judge(gate, sample(0, 0.1, 0)) is Verdict.ACCEPT


@given(st.floats(1e-6, 1.0), st.sampled_from([0.5, 2.0, 11.0]), st.sampled_from([0.001, 0.005, 0.02]))
def test_the_discrete_braking_speed_never_overshoots(distance: float, acceleration: float, dt: float) -> None:
    speed = approach_speed(distance, 10.0, acceleration, 1e9, dt)
    # The last, partial step costs at most a dt^2 / 8: 6 um at 200 Hz and 2 m/s^2.
    assert speed * dt + braking_distance(speed, acceleration, dt) <= distance + acceleration * dt**2 / 8 + 1e-12


def test_a_goal_is_reached_without_overshoot_and_without_creeping() -> None:
    limiter, limits = PoseLimiter(Bounds(leash_m=10.0)), MotionLimits(1.0, 5.0, 2.0, 11.0, gain=1e6)
    start, goal = Pose(np.array([0.3, 0, 0.3]), IDENTITY), Pose(np.array([0.6, 0, 0.3]), exp(np.array([0, 0, 0.4])))
    limiter.rest_at(start)
    xs = [limiter.step(goal, start, limits, 0.005).motion.pose.position[0] for _ in range(200)]
    assert max(xs) <= 0.6 + 1e-5
    assert xs[-1] == pytest.approx(0.6, abs=1e-6)
    assert limiter.motion is not None
    assert angle_between(limiter.motion.pose.rotation, goal.rotation) < 1e-6


def test_a_blocked_arm_holds_the_target_on_the_leash() -> None:
    limiter, arm = PoseLimiter(Bounds()), Pose(np.array([0.4, 0, 0.3]), IDENTITY)
    limiter.rest_at(arm)
    for _ in range(400):
        limited = limiter.step(Pose(np.array([0.7, 0, 0.3]), exp(np.array([1.5, 0, 0]))), arm, LIMITS["normal"], 0.005)
    assert limited.leash
    assert length(limited.motion.pose.position - arm.position) == pytest.approx(0.080, abs=1e-5)
    assert angle_between(limited.motion.pose.rotation, arm.rotation) == pytest.approx(0.5, abs=1e-4)


def test_an_arm_outside_the_box_is_not_pulled_in() -> None:
    limiter, low = PoseLimiter(Bounds(lower=(0.2, -0.5, 0.1))), Pose(np.array([0.4, 0, 0.05]), IDENTITY)
    limiter.rest_at(low)
    for _ in range(50):
        limited = limiter.step(low, low, LIMITS["teach"], 0.005)
    np.testing.assert_allclose(limited.motion.pose.position, low.position, atol=1e-9)
    for _ in range(50):
        limited = limiter.step(Pose(np.array([0.4, 0, 0.0]), IDENTITY), low, LIMITS["teach"], 0.005)
    assert limited.box
    assert limited.motion.pose.position[2] >= 0.05 - 1e-9


@settings(max_examples=50)
@given(st.integers(0, 2**31))
def test_the_filter_keeps_directions_and_calms_noise(seed: int) -> None:
    random = np.random.default_rng(seed)
    direction = random.normal(size=3)
    direction /= np.linalg.norm(direction)
    calm, noise = PoseFilter(OneEuro()), random.normal(0, 0.3e-3, (200, 3))
    still = [calm.update(Pose(n, IDENTITY), 1 / 72).position for n in noise]
    assert np.std(still[50:]) < 0.6 * np.std(noise)
    moving = PoseFilter(OneEuro())
    for k in range(72):
        found = moving.update(Pose(direction * 0.3 * k / 72, IDENTITY), 1 / 72).position
    np.testing.assert_allclose(np.cross(found, direction), 0, atol=1e-12)
    lag_s = (0.3 * 71 / 72 - float(found @ direction)) / 0.3
    assert 0.005 < lag_s < 0.035


@settings(max_examples=100)
@given(st.lists(st.floats(-2.8, 2.8), min_size=7, max_size=7))
def test_pinocchio_and_the_rig_agree_on_the_arm(q: list[float]) -> None:
    tool = np.eye(4)
    tool[:3, 3] = [0.01, -0.02, 0.1628]
    model = ArmModel(tool)
    model.update(np.array(q))
    np.testing.assert_allclose(model.pose.position, forward_kinematics(np.array(q), tool)[:3, 3], atol=1e-12)
    np.testing.assert_allclose(model.pose.rotation, forward_kinematics(np.array(q), tool)[:3, :3], atol=1e-12)
    np.testing.assert_allclose(model.jacobian, jacobian(np.array(q), tool), atol=1e-12)
    assert model.manipulability == pytest.approx(manipulability(jacobian(np.array(q), tool)), abs=1e-7)


def test_gripper_commands() -> None:
    assert [streamed(t) for t in (0.0, 0.4, 0.7, 1.0)] == pytest.approx([0.0, 0.6, 1.0, 1.0])
    binary = Binary()
    assert binary.update(0.5, 1.0) == 0.0
    assert binary.update(0.7, 1.1) == 1.0
    assert binary.update(0.3, 1.2) == 1.0  # too soon
    assert binary.update(0.3, 1.3) == 0.0


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(RobosteerError, match="scaling rotation: found 2"):
        Scaling(1.0, 2.0)
    with pytest.raises(RobosteerError, match="expected one of teach, normal, ceiling"):
        choose(LIMITS, "fast", "limits")
    with pytest.raises(RobosteerError, match="box"):
        Bounds(lower=(1.0, 0, 0), upper=(0.0, 1, 1))
    with pytest.raises(RobosteerError, match="acceleration"):
        MotionLimits(1.0, math.nan, 1.0, 1.0)
