"""Scenes and tasks.

Pins: a scene that depends on anything but its three numbers; a distractor too close to the target or of the target's
colour; layouts that differ between colours and so spoil comparisons; errors that do not name the valid choices; a goal
that is too near, or that cannot be reached; a yaw that never changes.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robosteer_rig.environment import Scene
from robosteer_rig.errors import RobosteerError
from robosteer_sim.layout import (
    CLEARANCE_M,
    DISTRACTOR_DISTANCE_M,
    JITTER_M,
    MAX_YAW_RAD,
    REGION_CENTRE_M,
    REGION_SIZE_M,
    add_around,
    grid_centre,
    lay_out,
)
from robosteer_sim.objects import KINDS
from robosteer_sim.tasks import CUBES, TASKS, task_card

CUBE_TASKS = sorted(f"pick up {name}" for name in CUBES)
SCENES = st.builds(Scene, st.sampled_from(CUBE_TASKS), st.integers(0, 39), st.integers(0, 2**40))


@given(SCENES)
def test_a_scene_always_gives_the_same_layout_within_its_rules(scene):
    target, distractor = lay_out(scene)
    assert lay_out(scene) == (target, distractor)
    assert target.name == task_card(scene.task).target
    assert distractor.name in CUBES
    assert distractor.name != target.name
    assert np.linalg.norm(np.subtract(target.position, distractor.position)) >= DISTRACTOR_DISTANCE_M
    assert np.abs(target.position - grid_centre(scene.grid_cell)).max() <= JITTER_M
    for placed in (target, distractor):
        assert np.all(np.abs(np.subtract(placed.position, REGION_CENTRE_M)) <= np.array(REGION_SIZE_M) / 2)
        assert abs(placed.yaw) <= MAX_YAW_RAD


def test_colours_are_compared_in_the_same_places():
    layouts = [lay_out(Scene(task, 11, 5)) for task in CUBE_TASKS]
    assert len({tuple(placed.position for placed in layout) for layout in layouts}) == 1


def test_every_other_colour_serves_as_distractor():
    names = {lay_out(Scene("pick up red cube", 3, seed))[1].name for seed in range(40)}
    assert names == set(CUBES) - {"red cube"}


def test_the_distractors_can_be_chosen():
    scene = Scene("pick up red cube", 3, 0)
    assert lay_out(scene, ["blue cube"])[1].name == "blue cube"
    assert len(lay_out(scene, [])) == 1
    assert lay_out(scene, [])[0] == lay_out(scene)[0]
    with pytest.raises(RobosteerError, match="distractors: found 'red cube'"):
        lay_out(scene, ["red cube"])


@pytest.mark.parametrize(
    ("scene", "message"),
    [
        (
            Scene("pick up purple cube", 0, 0),
            r"task: found 'pick up purple cube', expected one of \['pick up blue cube'",
        ),
        (Scene("pick up red cube", 40, 0), r"grid_cell: found 40, expected 0 \.\.\. 39"),
        (Scene("pick up red cube", -1, 0), "grid_cell: found -1"),
        (Scene("pick up red cube", 0, -3), "seed: found -3"),
    ],
)
def test_a_scene_that_does_not_exist_is_named(scene, message):
    with pytest.raises(RobosteerError, match=message) as caught:
        lay_out(scene)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", sorted(set(TASKS) - set(CUBE_TASKS)))
def test_every_cell_has_a_scene_of_every_task(task):
    card, yaws = task_card(task), []
    for cell in range(40):
        for seed in range(3):
            target, *goal = lay_out(Scene(task, cell, seed))
            assert (target.name, [placed.name for placed in goal]) == (card.target, [card.goal] if card.goal else [])
            assert np.abs(target.position - grid_centre(cell)).max() <= JITTER_M
            yaws.append(target.yaw)
            if goal:
                near, far = card.goal_distance_m
                assert near <= np.linalg.norm(np.subtract(target.position, goal[0].position)) <= far
                assert np.all(np.abs(np.subtract(goal[0].position, REGION_CENTRE_M)) <= np.array(REGION_SIZE_M) / 2)
    most = KINDS[target.slot[0]].max_yaw
    assert min(yaws) < -0.8 * most
    assert max(yaws) > 0.8 * most


def test_what_is_added_to_a_scene_leaves_room_around_everything():
    scene = Scene("place green cube in red bowl", 12, 4)
    placed = add_around(lay_out(scene), ["yellow cube", "grey block", "purple ball"], np.random.default_rng(0))
    assert placed[:2] == lay_out(scene)
    assert len(placed) == 5
    for number, one in enumerate(placed):
        for other in placed[max(2, number + 1) :]:
            apart = np.linalg.norm(np.subtract(one.position, other.position))
            assert apart >= one.radius + other.radius + CLEARANCE_M
