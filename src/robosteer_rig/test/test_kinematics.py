"""Kinematics of the arm.

Regressions pinned: a sign in the chain; the tool offset taken in the base frame; a Jacobian about the flange used for
the tool; joint speeds that explode at a singularity.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robosteer_rig.errors import RobosteerError
from robosteer_rig.kinematics import (
    damped_least_squares,
    forward_kinematics,
    jacobian,
    joint_frames,
    manipulability,
    tool_transform,
)

from .bench import sim_rig

TOOL = tool_transform(sim_rig().frames)
TOOL[:3, 3] += [0.02, -0.01, 0.0]  # off the axis, so that mistakes show
READY = np.array([0, -0.35, 0, -2.35, 0, 2.0, np.pi / 4])
joints = st.lists(st.floats(-2.8, 2.8), min_size=7, max_size=7).map(np.array)


def finite_differences(q, tool, step=1e-6):
    columns = []
    rotation = forward_kinematics(q, tool)[:3, :3]
    for i in range(7):
        nudge = np.zeros(7)
        nudge[i] = step
        change = (forward_kinematics(q + nudge, tool) - forward_kinematics(q - nudge, tool)) / (2 * step)
        spin = change[:3, :3] @ rotation.T
        columns.append([*change[:3, 3], spin[2, 1], spin[0, 2], spin[1, 0]])
    return np.array(columns).T


def test_known_poses():
    zero = forward_kinematics(np.zeros(7))
    # Stretched up: 0.333 + 0.316 + 0.384 m, the wrist offset of 0.088 m forward, the flange 0.107 m down.
    assert zero[:3, 3] == pytest.approx([0.088, 0, 0.333 + 0.316 + 0.384 - 0.107], abs=1e-12)
    assert zero[:3, :3] == pytest.approx(np.diag([1, -1, -1]), abs=1e-12)
    ready = forward_kinematics(READY, tool_transform(sim_rig().frames))
    assert ready[:3, 2] == pytest.approx([0, 0, -1], abs=1e-12)  # tool down


@settings(max_examples=60, deadline=None)
@given(joints)
def test_jacobian_equals_finite_differences(q):
    for tool in (None, TOOL):
        assert jacobian(q, tool) == pytest.approx(finite_differences(q, tool), abs=1e-8)


@settings(max_examples=40, deadline=None)
@given(joints)
def test_poses_are_rigid_and_batches_equal_single_calls(q):
    pose = forward_kinematics(q, TOOL)
    assert pose[:3, :3] @ pose[:3, :3].T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    batch = np.stack([q, READY, -q])
    assert (forward_kinematics(batch, TOOL)[0] == pose).all()
    assert (jacobian(batch, TOOL)[0] == jacobian(q, TOOL)).all()
    assert joint_frames(batch).shape == (3, 8, 4, 4)


def test_inverse_is_exact_away_from_singularities_and_bounded_at_them():
    twist = np.array([0.1, -0.05, 0.02, 0.1, 0.2, -0.1])
    velocity = damped_least_squares(READY, twist, tool=TOOL)
    assert jacobian(READY, TOOL) @ velocity == pytest.approx(twist, abs=1e-9)
    stretched = np.zeros(7)
    assert manipulability(jacobian(stretched)) < 1e-6
    away = damped_least_squares(stretched, np.array([0, 0, 0.2, 0, 0, 0]))
    assert np.isfinite(away).all()
    assert np.abs(away).max() < 0.2 / (2 * 0.08) + 1e-9  # |v| / (2 λ)


def test_posture_moves_only_the_free_direction():
    posture = READY + 0.3
    velocity = damped_least_squares(READY, np.zeros(6), posture=posture)
    assert jacobian(READY) @ velocity == pytest.approx(np.zeros(6), abs=1e-9)
    assert velocity @ (posture - READY) > 0


def test_wrong_shape_is_one_error():
    with pytest.raises(RobosteerError, match=r"found shape \(6,\)"):
        forward_kinematics(np.zeros(6))
