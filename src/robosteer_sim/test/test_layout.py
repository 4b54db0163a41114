"""Scenes and tasks.

Pins: a scene that depends on anything but its three numbers; a distractor too close to the target or of the target's
colour; layouts that differ between colours and so spoil comparisons; errors that do not name the valid choices; a judge
that accepts a short lift, the wrong object, or two objects held one after the other.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robosteer_rig.environment import Scene
from robosteer_rig.errors import RobosteerError
from robosteer_sim.layout import (
    DISTRACTOR_DISTANCE_M,
    JITTER_M,
    MAX_YAW_RAD,
    REGION_CENTRE_M,
    REGION_SIZE_M,
    grid_centre,
    lay_out,
)
from robosteer_sim.tasks import OBJECTS, TASKS, LiftJudge, task_card

SCENES = st.builds(Scene, st.sampled_from(sorted(TASKS)), st.integers(0, 39), st.integers(0, 2**40))


@given(SCENES)
def test_a_scene_always_gives_the_same_layout_within_its_rules(scene):
    target, distractor = lay_out(scene)
    assert lay_out(scene) == (target, distractor)
    assert target.name == task_card(scene.task).target
    assert distractor.name in OBJECTS
    assert distractor.name != target.name
    assert np.linalg.norm(np.subtract(target.position, distractor.position)) >= DISTRACTOR_DISTANCE_M
    assert np.abs(target.position - grid_centre(scene.grid_cell)).max() <= JITTER_M
    for placed in (target, distractor):
        assert np.all(np.abs(np.subtract(placed.position, REGION_CENTRE_M)) <= np.array(REGION_SIZE_M) / 2)
        assert abs(placed.yaw) <= MAX_YAW_RAD


def test_colours_are_compared_in_the_same_places():
    layouts = [lay_out(Scene(task, 11, 5)) for task in TASKS]
    assert len({tuple(placed.position for placed in layout) for layout in layouts}) == 1


def test_every_other_colour_serves_as_distractor():
    names = {lay_out(Scene("pick up red cube", 3, seed))[1].name for seed in range(40)}
    assert names == set(OBJECTS) - {"red cube"}


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


def watch(*held):
    judge = LiftJudge(task_card("pick up red cube"))
    for number, name in enumerate(held):
        judge.observe(number * 0.1, name)
    return judge


def test_the_judge_wants_half_a_second_without_a_break():
    assert watch(*["red cube"] * 6).success
    assert not watch(*["red cube"] * 5).success
    assert not watch(*["red cube"] * 4, None, *["red cube"] * 5).success
    assert not watch("red cube", "blue cube", "red cube", "blue cube", "red cube", "blue cube").success


def test_the_judge_tells_what_was_lifted_instead():
    judge = watch(*["blue cube"] * 7, *["red cube"] * 7)
    assert not judge.success
    assert judge.lifted == "blue cube"
    assert judge.failure == "picked up blue cube instead of red cube"
    assert watch(None).failure is None
