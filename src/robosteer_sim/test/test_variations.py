"""Variations of a scene.

Pins: a variation that moves the task's objects; one that is drawn anew each time, or leaks into the next scene; light,
camera or table that stays as it was; a distractor that a task asks for, or that stands in the way; an unknown name
accepted.
"""

import numpy as np
import pytest

from robosteer_rig.environment import Scene
from robosteer_rig.errors import RobosteerError
from robosteer_sim.layout import DISTRACTORS, VARIATIONS, lay_out
from robosteer_sim.physics import CellPhysics
from robosteer_sim.rendering import CellCameras
from robosteer_sim.tasks import TASKS
from robosteer_sim.variations import CAMERA_SHIFT_M, CAMERA_TURN_RAD, ORDINARY, conditions_of

NAMED = sorted(filter(None, VARIATIONS))


@pytest.mark.parametrize("variation", NAMED)
@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_tasks_objects_stay_in_their_places(task, variation):
    for cell in range(0, 40, 7):
        ordinary, varied = lay_out(Scene(task, cell, 3)), lay_out(Scene(task, cell, 3, variation))
        assert varied == lay_out(Scene(task, cell, 3, variation))
        for one, other in zip(ordinary, varied[: len(ordinary)], strict=True):
            assert (one.name, one.position, one.yaw) == (other.name, other.position, other.yaw)
        added = [placed.name for placed in varied[len(ordinary) :]]
        assert set(added) <= set(DISTRACTORS)
        assert len(set(added)) == len(added)
        assert (len(added) >= 2) == (variation == "distractors")
        if variation == "form":
            assert all(placed.form > 0 for placed in varied)


def test_no_task_asks_for_a_distractor():
    assert not set(DISTRACTORS) & {name for card in TASKS.values() for name in (card.target, card.goal)}


def test_the_way_of_a_push_is_kept_free():
    for cell in range(40):
        cup, bowl, *others = lay_out(Scene("push red cup to red bowl", cell, 0, "distractors"))
        way = np.subtract(bowl.position, cup.position)
        for other in others:
            off = np.subtract(other.position, cup.position)
            share = np.clip(off @ way / (way @ way), 0, 1)
            assert np.linalg.norm(off - share * way) >= other.radius + cup.radius + 0.0499


def test_an_unknown_variation_is_named():
    with pytest.raises(RobosteerError, match=r"variation: found 'fog', expected one of \['camera', 'distractors'"):
        lay_out(Scene("pick up red cube", 0, 0, "fog"))


def test_cameras_move_within_their_limits():
    for seed in range(50):
        moved = conditions_of(Scene("pick up red cube", 3, seed, "camera")).cameras
        assert set(moved) == {"left", "right", "wrist"}
        for shift, turn in (moved["left"], moved["right"]):
            assert CAMERA_SHIFT_M / 2 <= np.linalg.norm(shift) <= CAMERA_SHIFT_M
            assert CAMERA_TURN_RAD / 2 <= np.linalg.norm(turn) <= CAMERA_TURN_RAD
        assert np.linalg.norm(moved["wrist"][0]) < 0.01
    assert conditions_of(Scene("pick up red cube", 3, 0)) == ORDINARY


@pytest.fixture(scope="module")
def cell():
    physics = CellPhysics()
    cameras = CellCameras(physics, dict.fromkeys(("left", "wrist"), (64, 64)))
    yield physics, cameras
    cameras.close()


def pictures(cell, scene):
    physics, cameras = cell
    physics.reset(lay_out(scene), conditions=conditions_of(scene))
    return np.stack([cameras.render("left"), cameras.render("wrist")]).astype(int)


@pytest.mark.parametrize("variation", NAMED)
def test_a_variation_shows_is_repeated_and_leaves_no_trace(cell, variation):
    scene = Scene("place marker in mug", 20, 1)
    varied = Scene(scene.task, scene.grid_cell, scene.seed, variation)
    ordinary, changed = pictures(cell, scene), pictures(cell, varied)
    assert np.abs(changed - ordinary).max() > 40
    assert np.array_equal(pictures(cell, scene), ordinary)
    assert np.array_equal(pictures(cell, varied), changed)


def test_a_lamp_on_one_side_in_a_dim_room(cell):
    scenes = [Scene("pick up red cube", 20, seed, "lighting") for seed in range(8)]
    sides = {np.sign(conditions_of(scene).lights[0].position[1]) for scene in scenes}
    assert sides == {-1.0, 1.0}
    contrast = [pictures(cell, scene)[0].std() for scene in (scenes[0], Scene("pick up red cube", 20, 0))]
    assert contrast[0] > contrast[1]
