"""The simulated arm under its Cartesian impedance controller.

Pins: an arm that drifts when nobody commands; a spike when the attitude passes the half turn at which a gripper points
down (crisp_controllers before 2.0); a target that is forgotten; servos that go on working beside the torques.
"""

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robosteer_rig.environment import Scene
from robosteer_rig.kinematics import forward_kinematics
from robosteer_sim.gripper import tool_in_flange
from robosteer_sim.impedance import ImpedanceSettings, rotation_of_quaternion, rotation_vector, turned
from robosteer_sim.live import LiveCell

SCENE = Scene("pick up red cube", 19, 0)
TOOL = tool_in_flange()


@pytest.fixture(scope="module")
def cell():
    return LiveCell(SCENE, impedance=ImpedanceSettings())


@pytest.fixture
def start(cell):
    cell.reset(SCENE)
    return forward_kinematics(cell.physics.joint_position, TOOL)


def quaternion(matrix):
    """x, y, z, w, by MuJoCo."""
    found = np.zeros(4)
    mujoco.mju_mat2Quat(found, matrix.reshape(-1))
    return np.roll(found, -1)


def run(cell, steps, position, turn):
    """Poses of the tool while a target is repeated."""
    poses = []
    for _ in range(steps):
        cell.aim(position, turn)
        cell.step()
        poses.append(forward_kinematics(cell.physics.joint_position, TOOL))
    return np.array(poses)


def test_without_a_target_it_holds(cell, start):
    for _ in range(250):
        cell.step()
    np.testing.assert_allclose(forward_kinematics(cell.physics.joint_position, TOOL), start, atol=1e-4)


def test_it_follows_and_the_last_target_holds(cell, start):
    goal = start[:3, 3] + [0.06, 0.03, -0.05]
    turn = quaternion(turned(np.array([0.0, 0.0, 0.3])) @ start[:3, :3])
    run(cell, 300, goal, turn)
    for _ in range(250):
        cell.step()
    found = forward_kinematics(cell.physics.joint_position, TOOL)
    np.testing.assert_allclose(found[:3, 3], goal, atol=2e-3)
    assert np.linalg.norm(rotation_vector(found[:3, :3] @ start[:3, :3].T)) == pytest.approx(0.3, abs=0.01)
    assert np.abs(cell.physics.joint_velocity).max() < 0.02


def test_pointing_down_is_no_seam(cell, start):
    """Either sign of the quaternion, a quarter degree to and fro across the half turn: the tool must not notice."""
    tilts = [quaternion(turned(np.array([tilt, 0.0, 0.0])) @ start[:3, :3]) for tilt in (0.004, -0.004)]
    poses = np.concatenate([run(cell, 5, start[:3, 3], sign * tilt) for sign in (1, -1) for tilt in tilts * 10])
    angles = [np.linalg.norm(rotation_vector(pose[:3, :3] @ start[:3, :3].T)) for pose in poses]
    assert max(angles) < 0.01
    assert np.abs(poses[:, :3, 3] - start[:3, 3]).max() < 2e-3


def test_what_is_no_pose_is_counted_and_changes_nothing(cell, start):
    before = cell.counters.rejected_commands
    cell.aim([np.nan, 0, 0], [0, 0, 0, 1])
    cell.aim([0, 0, 0], [0, 0, 0, 0.5])
    assert cell.counters.rejected_commands == before + 2
    for _ in range(50):
        cell.step()
    np.testing.assert_allclose(forward_kinematics(cell.physics.joint_position, TOOL), start, atol=1e-4)


def test_poses_mean_nothing_to_velocity_servos():
    cell = LiveCell(SCENE)
    cell.aim([0.4, 0.0, 0.3], [1, 0, 0, 0])
    assert cell.counters.rejected_commands == 1


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternions(q):
    unit = np.array(q) / np.linalg.norm(q)
    x, y, z, w = unit
    expected = np.array([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)])
    np.testing.assert_allclose(rotation_of_quaternion(unit)[:, 0], expected, atol=1e-9)
