"""The in-process environment.

Pins: frames that differ from the live path by more than the codec; an action that is not the one applied in its
interval; demonstrations that depend on earlier ones; success reported for the wrong object; a disturbance that leaks
into the action's label; unclear errors for another arm, a bad command or a machine without OpenGL; a wrong camera
model.
"""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from robosteer_rig.environment import Failure, Scene, make_environment
from robosteer_rig.errors import RobosteerError
from robosteer_rig.images import prepare
from robosteer_sim.cell_model import CAMERAS
from robosteer_sim.environment import CellEnvironment
from robosteer_sim.rendering import CellCameras
from robosteer_sim.tasks import task_card

SCENE = Scene("pick up red cube", 26, 3)


@pytest.fixture(scope="module")
def demonstration(environment):
    pairs = list(environment.demonstrate(SCENE))
    return pairs, environment.success, environment.object_positions()


def test_a_demonstration_succeeds_with_frames_of_the_rigs_shape(demonstration, rig):
    pairs, success, positions = demonstration
    assert success
    assert len(positions) == 2
    assert positions["red cube"][2] > 0.1
    for number, (frame, action) in enumerate(pairs):
        assert frame.stamp_ns == round(number * 1e9 / rig.action.rate_hz)
        assert set(frame.images) == {"left", "wrist"}
        assert all(image.shape == (64, 64, 3) and image.dtype == np.uint8 for image in frame.images.values())
        assert frame.joint_position.shape == frame.joint_velocity.shape == (7,)
        assert 0 <= frame.gripper_position <= 1
        assert not frame.stale
        assert set(frame.ages_ns.values()) == {0}
        assert action.shape == (8,)
        assert np.isfinite(action).all()


def test_its_actions_replayed_step_by_step_give_the_same_frames(environment, demonstration):
    pairs, _, _ = demonstration
    frame = environment.reset(SCENE)
    for expected, action in pairs[:40]:
        assert np.array_equal(frame.joint_position, expected.joint_position)
        assert all(np.array_equal(frame.images[name], expected.images[name]) for name in frame.images)
        frame = environment.step(action[:7], action[7])
    for _, action in pairs[40:]:
        assert not environment.success or environment.judge.lifted == "red cube"
        environment.step(action[:7], action[7])
    assert environment.success


def test_measured_velocities_agree_with_positions(demonstration, rig):
    frames = [frame for frame, _ in demonstration[0]]
    travelled = np.diff([frame.joint_position for frame in frames], axis=0) * rig.action.rate_hz
    middle = (np.array([f.joint_velocity for f in frames[1:]]) + np.array([f.joint_velocity for f in frames[:-1]])) / 2
    assert np.abs(travelled - middle).max() < 0.06


def test_success_needs_the_right_object(rig, demonstration):
    cell = CellEnvironment(rig, distractors=["blue cube"])
    cell.reset(SCENE)
    assert set(cell.object_positions()) == {"red cube", "blue cube"}
    # The same motions where the target is the other colour: what they lift is then the wrong object.
    cell.judge.card = task_card("pick up blue cube")
    for _, action in demonstration[0]:
        cell.step(action[:7], action[7])
    assert not cell.success
    assert cell.failure is Failure.WRONG_OBJECT
    assert cell.judge.detail == "picked up red cube instead of blue cube"
    cell.close()


def test_a_disturbed_demonstration_still_succeeds_and_labels_the_experts_own_action(environment):
    pairs = list(environment.demonstrate(SCENE, disturbance=0.05))
    assert environment.success
    frames = [frame for frame, _ in pairs]
    actions = np.array([action[:7] for _, action in pairs])
    moved = np.diff([frame.joint_position for frame in frames], axis=0) * 15
    assert np.abs(actions[:-1] - moved).std() > 0.02  # pushes are in the motion
    assert np.abs(np.diff(actions, axis=0)).max() * 15 < 7  # and not in the labels
    again = list(environment.demonstrate(SCENE, disturbance=0.05))
    assert np.array_equal(actions, [action[:7] for _, action in again])


def test_frames_are_the_cameras_pictures_through_the_live_crop(environment, rig):
    frame = environment.reset(SCENE)
    cameras = CellCameras(environment.physics, dict.fromkeys(CAMERAS, (320, 180)))
    for name, image in frame.images.items():
        assert np.array_equal(image, prepare(cameras.render(name), rig.cameras[name]))
    cameras.close()


def test_intrinsics_and_placement_tell_where_an_object_appears(environment):
    environment.reset(SCENE)
    cameras = CellCameras(environment.physics, dict.fromkeys(CAMERAS, (320, 180)))
    cube = environment.object_positions()["red cube"]
    for name in ("left", "right"):
        camera = CAMERAS[name]
        x, y, z = camera.rotation.T @ (cube - camera.position)
        focal = camera.focal_length_px(180)
        expected = np.array([159.5 - focal * x / z, 89.5 + focal * y / z])
        picture = cameras.render(name).astype(int)
        rows, columns = np.nonzero((picture[..., 0] > 100) & (picture[..., 1] < 60) & (picture[..., 2] < 60))
        assert len(rows) > 60
        assert np.linalg.norm([columns.mean() - expected[0], rows.mean() - expected[1]]) < 2.0
    cameras.close()


@pytest.mark.parametrize(
    ("velocity", "gripper"), [(np.zeros(6), 0.0), (np.full(7, np.nan), 0.0), (np.zeros(7), np.inf)]
)
def test_a_bad_command_is_refused(environment, velocity, gripper):
    environment.reset(SCENE)
    with pytest.raises(RobosteerError, match="command: found"):
        environment.step(velocity, gripper)


def test_another_arm_is_refused(rig):
    joints = tuple(name.replace("panda", "fr3") for name in rig.arm.joints)
    other = dataclasses.replace(rig, arm=dataclasses.replace(rig.arm, joints=joints))
    with pytest.raises(RobosteerError, match=r"rig: found arm.joints \['fr3_joint1'"):
        CellEnvironment(other)


def test_the_environment_is_announced(rig):
    found = make_environment("cell", rig)
    assert found.reset(SCENE).images["left"].shape == (64, 64, 3)
    found.close()


def test_without_opengl_the_missing_packages_are_named():
    code = """
from robosteer_rig.errors import RobosteerError
from robosteer_sim.physics import CellPhysics
from robosteer_sim.rendering import CellCameras
from robosteer_sim.tasks import task_card
try:
    CellCameras(CellPhysics(), {"left": (320, 180)})
except RobosteerError as problem:
    print(problem)
"""
    environment = {"PATH": "/usr/bin", "MUJOCO_GL": "disable"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert len(lines) == 1, done.stderr
    assert "MUJOCO_GL='disable'" in lines[0]
    assert "libegl1 libgl1-mesa-dri" in lines[0]
