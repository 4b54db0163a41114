"""Damped differential inverse kinematics on the trajectories that break a plain pseudo-inverse.

Pins: joint speeds of a thousand times the limit when the arm is stretched out; joint limits crossed when the tool is
pulled in; chatter at a singularity or a limit; a lag of centimetres because the target's velocity is not fed forward.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robosteer_rig.kinematics import tool_transform
from robosteer_rig.limits import JointLimits
from robosteer_teleop.control.arm_model import ArmModel
from robosteer_teleop.control.core import TICK_S
from robosteer_teleop.control.frames import Pose
from robosteer_teleop.control.joint_velocity import IkSettings, JointVelocityOutput, monitor
from robosteer_teleop.control.limiter import Motion, PoseLimiter
from robosteer_teleop.control.presets import LIMITS, Bounds
from robosteer_teleop.control.rotations import exp, length

START = np.array(IkSettings().posture)
EVERYWHERE = Bounds(lower=(-2, -2, -2), upper=(2, 2, 2))
EDGES = {"reach out": (1.5, 0.0, 0.0), "above the base": (-0.45, 0.0, 1.2), "pull in": (-0.5, 0.0, -0.3)}


class Arm:
    """A perfect velocity-controlled arm that follows a goal through limiter and inverse kinematics."""

    def __init__(self, rig) -> None:
        self.limits = JointLimits.of(rig.arm)
        self.model = ArmModel(tool_transform(rig.frames))
        self.output = JointVelocityOutput(self.model, self.limits, IkSettings())
        self.q = START.copy()
        self.model.update(self.q)
        self.limiter = PoseLimiter(EVERYWHERE)
        self.limiter.rest_at(self.model.pose)
        self.velocities: list[np.ndarray] = []

    def follow(self, goal: Pose, name: str = "normal") -> Motion:
        self.model.update(self.q)
        slow = monitor(self.model, self.limits, self.q).slow
        motion = self.limiter.step(goal, self.model.pose, LIMITS[name].slowed(slow), TICK_S).motion
        velocity = self.output.velocity(self.q, motion)
        assert (np.abs(velocity) <= 0.8 * self.limits.velocity_max + 1e-12).all()
        self.q = self.q + velocity * TICK_S
        assert self.limits.position_margin(self.q).min() > 0
        self.velocities.append(velocity)
        return motion

    def chatter(self) -> int:
        """How often a joint turned round between two ticks at a speed that one can hear, rad/s."""
        v = np.array(self.velocities)
        return int(((v[1:] * v[:-1] < 0) & (np.abs(v[1:]) > 0.02) & (np.abs(v[:-1]) > 0.02)).sum())


@pytest.mark.parametrize("edge", EDGES)
def test_edges_are_slow_and_quiet(rig, edge: str) -> None:
    arm = Arm(rig)
    goal = Pose(arm.model.pose.position + EDGES[edge], arm.model.pose.rotation)
    for _ in range(2000):
        arm.follow(goal)
    assert arm.chatter() == 0
    assert np.abs(arm.velocities[-1]).max() < 0.05  # it came to rest at the edge
    start = arm.model.pose.position.copy()
    back = Pose(start - 0.3 * np.array(EDGES[edge]), goal.rotation)
    for _ in range(1000):
        arm.follow(back)
    assert length(arm.model.pose.position - start) > 0.05  # and comes back when asked
    assert arm.chatter() <= 1  # turning round is no chatter


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.tuples(*[st.floats(-1.2, 1.2)] * 3), st.tuples(*[st.floats(-2.5, 2.5)] * 3)),
        min_size=1,
        max_size=6,
    )
)
def test_no_goal_exceeds_joint_limits(rig, goals) -> None:
    arm = Arm(rig)
    for position, turn in goals:
        for _ in range(100):
            arm.follow(Pose(np.array(position), exp(np.array(turn))), "ceiling")


def test_a_circle_is_followed_closely(rig) -> None:
    """0.31 m/s on a circle of 10 cm: some millimetres behind, because the target's velocity is fed forward."""
    arm = Arm(rig)
    centre, errors = arm.model.pose.position.copy(), []
    for k in range(1200):
        angle = 3.1 * k * TICK_S
        goal = Pose(centre + 0.1 * np.array([0, np.sin(angle), np.cos(angle) - 1]), arm.model.pose.rotation)
        motion = arm.follow(goal)
        if k > 300:
            errors.append(length(motion.pose.position - arm.model.pose.position))
    assert np.sqrt(np.mean(np.square(errors))) < 4e-3


def test_the_monitor_slows_down_towards_a_singularity(rig) -> None:
    model, limits = ArmModel(tool_transform(rig.frames)), JointLimits.of(rig.arm)
    model.update(START)
    assert monitor(model, limits, START).slow == 1.0
    assert not monitor(model, limits, START).near_limit
    stretched = np.array([0.0, 0.8, 0.0, -0.2, 0.0, 1.0, 0.8])
    model.update(stretched)
    assert monitor(model, limits, stretched).slow == pytest.approx(0.2, abs=0.15)
    bent = START.copy()
    bent[0] = 2.85
    model.update(bent)
    assert monitor(model, limits, bent).near_limit
