"""The moving cell.

Pins: an arm that sags or drifts at rest; a servo that does not follow a velocity command; a stored-up jump after the
arm was blocked; a gripper faster than the real one or with another polarity; a grasp that slips; motion that depends on
what was simulated before; a tool frame that disagrees with the rig's.
"""

import itertools

import numpy as np
import pytest

from robosteer_rig.environment import Scene
from robosteer_rig.kinematics import forward_kinematics, tool_transform
from robosteer_sim.cell_model import TIME_STEP_S
from robosteer_sim.gripper import tool_in_flange
from robosteer_sim.layout import PlacedObject, lay_out
from robosteer_sim.objects import CUBE_EDGE_M, KINDS
from robosteer_sim.panda import LINKS, READY_POSITION
from robosteer_sim.physics import MAX_STAGES, CellPhysics

STILL = np.zeros(7)


@pytest.fixture(scope="module")
def physics():
    return CellPhysics()


def run(physics, seconds, velocity=STILL, gripper=0.0):
    for _ in range(round(seconds / TIME_STEP_S)):
        physics.step(np.asarray(velocity), gripper)


def test_the_arm_and_the_objects_stay_where_they_are(physics):
    physics.reset(lay_out(Scene("pick up red cube", 20, 0)))
    before = physics.object_poses()
    run(physics, 2.0)
    assert np.abs(physics.joint_position - READY_POSITION).max() < 1e-6
    for name, pose in physics.object_poses().items():
        assert np.abs(pose - before[name]).max() < 5e-4


def test_the_model_has_the_rigs_kinematics(physics, rig):
    random = np.random.default_rng(0)
    for _ in range(5):
        position = random.uniform(rig.arm.position_min, rig.arm.position_max)
        physics.reset((), position)
        site = physics.data.site("tcp")
        pose = forward_kinematics(position, tool_in_flange())
        assert np.allclose(site.xpos, pose[:3, 3], atol=1e-9)
        assert np.allclose(site.xmat.reshape(3, 3), pose[:3, :3], atol=1e-9)
        assert np.allclose(forward_kinematics(position, tool_transform(rig.frames))[:3, 3], pose[:3, 3], atol=1e-9)
    assert np.allclose(
        [link.range for link in LINKS], list(zip(rig.arm.position_min, rig.arm.position_max, strict=True))
    )


def test_the_servo_follows_a_velocity_and_stops(physics):
    physics.reset(())
    velocity = np.array([0.5, -0.2, 0.3, 0.2, -0.5, 0.3, 0.8])
    run(physics, 0.5, velocity)
    assert np.abs(physics.joint_velocity - velocity).max() < 0.01
    assert np.abs(physics.joint_position - READY_POSITION - 0.5 * velocity).max() < 0.04  # the servo's lag
    run(physics, 0.3)
    assert np.abs(physics.joint_velocity).max() < 0.01
    assert np.abs(physics.joint_position - READY_POSITION - 0.5 * velocity).max() < 0.005


def test_a_blocked_arm_stores_up_no_jump_and_no_torque_beyond_its_limits(physics):
    physics.reset(())
    down = np.array([0.0, 0.6, 0.0, 0.0, 0.0, 0.0, 0.0])
    torque = []
    for _ in range(20):
        run(physics, 0.1, down)
        torque.append(np.abs(physics.joint_effort))
    assert physics.data.ncon > 0  # it has met the table
    assert np.all(np.max(torque, axis=0) <= [87, 87, 87, 87, 12, 12, 12])
    blocked = physics.joint_position[1]
    assert physics.data.act[1] - blocked <= 0.16
    run(physics, 0.5, -down)
    assert physics.joint_position[1] < blocked - 0.1


def test_the_gripper_closes_at_the_real_ones_speed(physics):
    physics.reset(())
    assert physics.gripper_position == pytest.approx(0.0, abs=0.01)
    run(physics, 0.2, gripper=1.0)
    assert 0.2 < physics.gripper_position < 0.4  # 150 mm/s of 85 mm: 0.57 s for all
    run(physics, 0.6, gripper=1.0)
    assert physics.gripper_position > 0.97
    run(physics, 0.8, gripper=0.0)
    assert physics.gripper_position < 0.02


def test_a_held_cube_does_not_slip(physics):
    tip = forward_kinematics(READY_POSITION, tool_in_flange())[:3, 3]
    physics.reset([PlacedObject("red cube", (tip[0], tip[1]), 0.1)])
    slot = physics.model.joint("cube_0").qposadr[0]
    physics.data.qpos[slot + 2] = tip[2]
    physics.model.body_gravcomp[physics.model.body("cube_0").id] = 1.0  # it waits in the air for the pads
    run(physics, 0.6, gripper=1.0)
    physics.model.body_gravcomp[physics.model.body("cube_0").id] = 0.0
    held = CUBE_EDGE_M / 0.085
    assert physics.gripper_position == pytest.approx(1 - held, abs=0.03)
    start = physics.object_poses()["red cube"][2]
    run(physics, 1.0, np.array([0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5]), gripper=1.0)
    run(physics, 3.0, gripper=1.0)
    now = physics.look()
    assert now.gripped(now.number("red cube"))
    assert now.heights[0] > 0.05
    assert abs(physics.object_poses()["red cube"][2] - start) < 0.003


def test_the_same_commands_give_the_same_motion_whatever_came_before(physics):
    def fly(cell):
        cell.reset(lay_out(Scene("pick up blue cube", 9, 4)))
        random = np.random.default_rng(1)
        for _ in range(20):
            run(cell, 0.04, random.uniform(-0.8, 0.8, 7), random.uniform())
        return np.concatenate([cell.data.qpos, cell.data.qvel])

    first = fly(physics)
    run(physics, 0.3, np.full(7, 0.4), 1.0)
    physics.reset(lay_out(Scene("place marker in mug", 3, 1)))  # another model
    run(physics, 0.3, np.full(7, 0.4), 1.0)
    assert np.array_equal(fly(physics), first)
    assert np.array_equal(fly(CellPhysics()), first)


@pytest.mark.parametrize(("name", "form"), [(n, f) for n in sorted(KINDS) for f in range(len(KINDS[n].forms))])
def test_every_object_lies_still_in_every_form(physics, name, form):
    physics.reset([PlacedObject(f"red {name}", (0.5, 0.1), 0.3, form)])
    run(physics, 0.3)
    before, now = physics.object_poses()[f"red {name}"], physics.look()
    assert abs(now.heights[0]) < 1e-3
    run(physics, 1.0)
    after = physics.object_poses()[f"red {name}"]
    assert np.abs(after - before).max() < 5e-4
    assert now.names == (f"red {name}",)


def test_models_are_shared_between_orders_of_distractors_and_not_kept_for_ever(physics):
    cubes = [PlacedObject("red cube", (0.4, -0.1), 0.0), PlacedObject("blue cube", (0.4, 0.1), 0.0)]
    others = [PlacedObject("grey ball", (0.6, -0.1), 0.0), PlacedObject("grey block", (0.6, 0.1), 0.0)]
    models = []
    for objects in (cubes + others, cubes + others[::-1], cubes, cubes[:1]):
        physics.reset(objects)
        models.append(physics.model)
        assert set(physics.object_poses()) == {placed.name for placed in objects}
    assert models[0] is models[1]
    assert models[2] is models[3] is not models[0]
    for first, second in itertools.islice(itertools.permutations(sorted(KINDS), 2), MAX_STAGES + 3):
        physics.reset([PlacedObject(f"red {first}", (0.4, -0.1), 0.0), PlacedObject(f"red {second}", (0.6, 0.1), 0.0)])
    assert len(physics._stages) == MAX_STAGES
