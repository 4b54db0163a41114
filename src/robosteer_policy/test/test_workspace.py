"""The workspace: no wish leaves the box or goes below the table, and an impedance target never jumps.

Regressions pinned: the tool was kept above the table while the elbow went through it; an arm that stood outside could
not come back; a target followed the measured position at rest, so that the arm sagged under gravity; a resting target
waited where an arm had been that was led away by hand, and pulled it back; a target that leads by one step of the
action lay behind a wall that the arm was kept from.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robosteer_policy.guard.impedance import ImpedanceTarget, for_impedance
from robosteer_policy.guard.limits import Limiter, Limits
from robosteer_policy.guard.workspace import WorkspaceLimits
from robosteer_rig.errors import RobosteerError
from robosteer_rig.kinematics import jacobian, joint_frames, tool_transform
from robosteer_rig.parts import Frames, Workspace

from .panda import ACCELERATION_MAX, JERK_MAX, POSITION_MAX, POSITION_MIN, READY, VELOCITY_MAX, limits

FRAMES = Frames("base", "flange", "tcp", (0.0, 0.0, 0.1628))
BOX = Workspace((0.2, -0.3, 0.05), (0.7, 0.3, 0.8), table_z=0.02)
WALLS = WorkspaceLimits(BOX, FRAMES)
WALLED = Limits(POSITION_MIN, POSITION_MAX, VELOCITY_MAX, ACCELERATION_MAX, JERK_MAX, workspace=WALLS)
TOOL = tool_transform(FRAMES)
wishes = st.lists(st.lists(st.floats(-3, 3), min_size=7, max_size=7), min_size=1, max_size=6)


def move(limiter, position, wish, periods):
    for _ in range(periods):
        position = position + limiter.step(wish, position) * limiter.limits.period_s
    return position


@settings(max_examples=12, deadline=None)
@given(wishes)
def test_any_wish_stays_inside_the_box_and_above_the_table(sequence):
    limiter, position = Limiter(WALLED), READY
    assert (WALLS.distances(READY) > 0).all()
    for wish in sequence:
        for _ in range(40):
            before = limiter.velocity
            position = move(limiter, position, wish, 1)
            change = np.abs(limiter.velocity - before) / WALLED.period_s
            assert (change <= ACCELERATION_MAX + 1e-6).all()
            assert (WALLS.distances(position) >= -1e-6).all()


def towards(position, direction, speed=0.3):
    return np.linalg.pinv(jacobian(position, TOOL)[:3]) @ (np.array(direction) * speed)


@pytest.mark.parametrize("direction", [[0, 0, -1], [1, 0, 0], [0, 1, 0], [0, -1, 0]])
def test_running_into_a_wall_ends_near_it_at_rest(direction):
    limiter, position = Limiter(WALLED), READY
    for _ in range(400):
        position = move(limiter, position, towards(position, direction), 1)
    assert -1e-6 <= WALLS.distances(position).min() < 0.02
    assert np.abs(limiter.velocity).max() < 0.02


def test_the_whole_vector_is_scaled_on_approach():
    limiter, position = Limiter(WALLED), READY
    for _ in range(120):
        wish = towards(position, [0, 0, -1])
        position = move(limiter, position, wish, 1)
    if limiter.velocity.any():
        cosine = limiter.velocity @ wish / np.linalg.norm(limiter.velocity) / np.linalg.norm(wish)
        assert cosine > 0.99


def test_an_arm_that_stands_outside_may_only_come_back():
    inside = Workspace((0.2, -0.3, 0.6), (0.7, 0.3, 0.8))
    limiter = Limiter(Limits(*[getattr(WALLED, n) for n in NAMES], workspace=WorkspaceLimits(inside, FRAMES)))
    height = joint_frames(READY, TOOL)[-1, 2, 3]
    assert height < 0.6
    assert move(limiter, READY, towards(READY, [0, 0, -1]), 20).tolist() == READY.tolist()
    assert joint_frames(move(limiter, READY, towards(READY, [0, 0, 1]), 60), TOOL)[-1, 2, 3] > height + 0.05


NAMES = ("position_min", "position_max", "velocity_max", "acceleration_max", "jerk_max")


def test_the_elbow_counts_for_the_table():
    folded = np.array([0.0, 1.7, 0.0, -0.2, 0.0, 2.2, 0.0])
    heights = joint_frames(folded, TOOL)[..., 2, 3]
    assert WALLS.distances(folded)[6:].min() == pytest.approx(heights[3:].min() - 0.02)


def test_a_box_without_room_is_refused():
    with pytest.raises(RobosteerError, match=r"low: found .* expected less than high"):
        Workspace((0.2, 0.4, 0.0), (0.7, 0.3, 0.8))


def test_the_impedance_target_is_measured_plus_one_step_and_stays_at_rest():
    target, velocity = ImpedanceTarget(limits(), 1 / 15), np.full(7, 0.3)
    position = READY.copy()
    assert target.step(np.zeros(7), position).tolist() == READY.tolist()
    sagged = position - 0.02
    assert target.step(np.zeros(7), sagged).tolist() == READY.tolist(), "no sagging"
    previous = READY
    for _ in range(30):
        position = position + velocity * 0.01
        now = target.step(velocity, position)
        assert np.abs(now - previous).max() <= 0.013 + 1e-9, "no jump"
        previous = now
    np.testing.assert_allclose(now, position + 0.02)
    held = target.step(np.zeros(7), position + 0.01)
    assert held.tolist() == now.tolist()


def test_a_target_that_the_arm_was_taken_away_from_does_not_pull_it_back():
    target = ImpedanceTarget(limits(), 1 / 15)
    target.step(np.zeros(7), READY)
    led = READY + 0.5  # by hand, or by another controller, while this target was repeated a hundred times a second
    assert target.step(np.zeros(7), led).tolist() == led.tolist()
    assert target.step(np.zeros(7), led - 0.02).tolist() == led.tolist(), "and then rests again"


@pytest.mark.parametrize("speed", [0.05, 0.1, 0.3])
def test_the_impedance_target_stays_inside_the_walls(speed):
    bounds = for_impedance(WALLED, 1 / 15)
    limiter, target, position = Limiter(bounds), ImpedanceTarget(bounds, 1 / 15), READY
    for _ in range(round(0.5 / speed / 0.01)):
        velocity = limiter.step(towards(position, [0, 0, -1], speed), position)
        assert (WALLS.distances(target.step(velocity, position)) >= -1e-6).all()
        position = position + velocity * 0.01
    assert WALLS.distances(position).min() < 0.02


def test_the_impedance_target_stays_inside_the_position_limits():
    target, position = ImpedanceTarget(limits(), 1 / 15), POSITION_MAX - 0.03
    for _ in range(30):
        now = target.step(VELOCITY_MAX, position)
        assert (now <= POSITION_MAX - 0.02 + 1e-9).all()
