"""Other sources of actions, and the replay check.

Regressions pinned: the measured displacement sold as the command (a compliant arm lags behind its target, so a policy
trained on it under-moves); single joints clipped instead of the whole vector scaled; a replay check that finds no fault
with actions of half the size or of the wrong rate.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robosteer_rig.action_variants import (
    controller_actions,
    measured_actions,
    rotation_vector,
    target_actions,
    values_at,
)
from robosteer_rig.errors import RobosteerError
from robosteer_rig.kinematics import forward_kinematics, tool_transform
from robosteer_rig.replay import replay_error

from .bench import sim_rig

TOOL = tool_transform(sim_rig().frames)
HOME = np.array([0, -np.pi / 5, 0, -4 * np.pi / 5, 0, 3 * np.pi / 5, 0])
RATE, UNIT = 15.0, 3.0
EDGES = np.round(np.arange(61) * 1e9 / RATE).astype(np.int64)


def reach(amplitude=0.3):
    """Targets at the 61 edges: a smooth reach of all joints."""
    share = (1 - np.cos(np.linspace(0, np.pi, 61))) / 2
    return HOME + share[:, None] * amplitude * np.array([1, 0.5, -0.7, 0.4, 0.3, -0.5, 0.8])


def lagging(targets, follow=0.4):
    """A compliant arm that makes up for a share of its error in every step."""
    measured = [targets[0]]
    for target in targets[1:]:
        measured.append(measured[-1] + follow * (target - measured[-1]))
    return np.array(measured)


def test_measured_actions_integrate_to_the_measured_motion():
    measured = lagging(reach())
    actions = measured_actions(measured, EDGES, UNIT)
    # The last action leads beyond the last frame, so a replay of all frames has nothing to compare it with.
    error = replay_error(measured[:-1], actions, unit_rad_per_s=UNIT, rate_hz=RATE, tool=TOOL)
    assert error.open_loop_max_m < 1e-6


def test_target_actions_contain_the_lead_and_drive_the_same_arm_the_same_way():
    targets = reach()
    measured = lagging(targets)
    lead = target_actions(targets[1:], measured[:-1], EDGES, UNIT)
    under = measured_actions(measured, EDGES, UNIT)
    assert np.abs(lead).sum() == pytest.approx(np.abs(under).sum() / 0.4, rel=1e-6)
    # DROID's deployment: target = measured + 0.2 u, followed by the same compliant arm.
    q = targets[0]
    for k, u in enumerate(lead):
        q = q + 0.4 * (0.2 * u)
        assert q == pytest.approx(measured[k + 1], abs=1e-6)


def test_the_controllers_law_shrinks_the_error_and_stays_in_bounds():
    targets = reach(1.0)
    measured = lagging(targets, follow=0.2)
    u = controller_actions(targets[1:], measured[:-1], EDGES, UNIT, tool=TOOL)
    assert np.abs(u).max() <= 1
    before = np.linalg.norm(_tool(targets[1:]) - _tool(measured[:-1]), axis=1)
    after = np.linalg.norm(_tool(targets[1:]) - _tool(measured[:-1] + 0.2 * u), axis=1)
    far = before > 1e-3
    assert (after[far] < before[far]).all()
    small = before < 0.02  # not shortened there: gain 5 times 0.075 m drives away 37.5 % of the position error
    assert after[far & small] / before[far & small] == pytest.approx(0.625, abs=0.05)
    assert (controller_actions(measured[:-1], measured[:-1], EDGES, UNIT, tool=TOOL) == 0).all()


def _tool(q):
    return forward_kinematics(q, TOOL)[:, :3, 3]


def test_whole_vectors_are_scaled():
    targets = HOME + np.array([[0.4, 0.1, 0, 0, 0, 0, 0]])
    u = target_actions(targets, HOME[None], EDGES[:2], UNIT)
    assert u[0, :2] == pytest.approx([1.0, 0.25], rel=1e-6)


@pytest.mark.parametrize(
    "fault", [lambda u: 0.5 * u, lambda u: u * 15 / 6, lambda u: -u, lambda u: np.roll(u, 1, axis=1)]
)
def test_the_replay_check_finds_wrong_actions(fault):
    measured = reach()
    good = measured_actions(measured, EDGES, UNIT)
    error = replay_error(measured[:-1], fault(good), unit_rad_per_s=UNIT, rate_hz=RATE, tool=TOOL)
    assert error.open_loop_max_m > 0.03
    assert error.one_step_max_m > 0.0005
    assert error.open_loop_median_m < error.open_loop_max_m
    with pytest.raises(RobosteerError, match="expected at least 2"):
        replay_error(measured[:1], good[:1], unit_rad_per_s=UNIT, rate_hz=RATE)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3).filter(lambda v: np.linalg.norm(v) < np.pi))
def test_rotation_vectors_are_scipys(vector):
    found = rotation_vector(Rotation.from_rotvec(vector).as_matrix())
    assert found == pytest.approx(np.array(vector), abs=1e-6)


def test_half_turns_have_an_axis():
    for axis in np.eye(3):
        assert np.abs(rotation_vector(Rotation.from_rotvec(np.pi * axis).as_matrix())) == pytest.approx(np.pi * axis)


def test_values_are_those_before_the_time():
    values = np.array([[1.0], [2.0]])
    assert values_at(np.array([10, 20]), values, np.array([10, 11, 30]), np.full((3, 1), 0.5)).tolist() == [
        [0.5],
        [1],
        [2],
    ]
    assert values_at(np.zeros(0), np.zeros((0, 1)), np.array([3]), np.array([[0.7]])).tolist() == [[0.7]]
    with pytest.raises(RobosteerError, match="edges"):
        measured_actions(np.zeros((2, 7)), np.array([5, 5]), UNIT)
