"""Tasks of the user's own.

Pins: a card that cannot be done, or looks fine and fails in the middle of a recording (an object that no expert can
hold, a goal that finds no place beside some cells); a mistake in a file that is not one line with the field; a task
that the launch checks know and the cell does not; a cube that counts as stacked while it is held, or beside the other;
two cards of one instruction that results cannot tell apart.
"""

import itertools
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from robosteer_rig.environment import Failure, Scene, check_scenes, task_digest
from robosteer_rig.errors import RobosteerError
from robosteer_sim.judge import Judge
from robosteer_sim.layout import PlacedObject
from robosteer_sim.motion import Phase
from robosteer_sim.physics import CellPhysics
from robosteer_sim.rehearsal import rehearse
from robosteer_sim.task_files import SUCCESS, VARIABLE, card_digest, parse_task
from robosteer_sim.tasks import task_card

PAGE = Path(__file__).parents[3] / "docs/how-to/tasks.md"
STACK = yaml.safe_load(re.search("```yaml\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)[1])
"""The guide's own example."""


@pytest.fixture(scope="module")
def physics():
    return CellPhysics()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Write tasks and let `ROBOSTEER_TASKS` name their directory."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))

    def write(**fields):
        task = STACK | fields
        (tmp_path / f"{len(list(tmp_path.iterdir()))}.yaml").write_text(yaml.safe_dump(task))
        return task["prompt"]

    return write


PAIRS = [
    (name, target, goal)
    for name, way in SUCCESS.items()
    for target, goals in way.kinds.items()
    for goal in goals or (None,)
]


@pytest.mark.parametrize(("success", "target", "goal"), PAIRS, ids=lambda value: str(value))
def test_the_expert_can_do_whatever_a_file_may_ask_for(physics, place, success, target, goal):
    task = place(
        prompt=f"{success} {target} {goal}",
        target=target if target in ("mug", "marker") else f"blue {target}",
        goal=goal if goal in (None, "mug") else f"red {goal}",
        goal_distance_m=[0.2, 0.34],
        success=success,
        tolerances={"radius_m": 0.045, "height_m": 0.05} if success == "inside" else {},
        time_limit_s=24.0,
    )
    for cell in (2, 20, 38):
        found = rehearse(physics, Scene(task, cell, cell + 1))
        assert found.judge.success, (cell, found.judge.detail)
        assert found.expert.done


def test_a_task_is_known_wherever_scenes_are_checked_and_has_its_variations(physics, place):
    task = place(distractors=[], tolerances={"radius_m": 0.015})
    check_scenes("cell", [Scene(task, 0, 0, "lighting")])
    assert task_card(task).success.radius_m == 0.015
    for cell, variation in itertools.product((7, 32), ("form", "distractors")):
        assert rehearse(physics, Scene(task, cell, 3, variation)).judge.success, (cell, variation)


def test_stacked_means_released_on_top(physics, place):
    task = place()
    still = rehearse(physics, Scene(task, 12, 1), until=lambda expert: expert.phase is Phase.OPEN)
    assert not still.judge.success  # on it, and between the pads
    judge = Judge(task_card(task))
    physics.reset([PlacedObject("blue cube", (0.5, 0.1), 0.0), PlacedObject("red cube", (0.5, 0.145), 0.0)])
    for _ in range(200):
        physics.step([0.0] * 7, 0.0)
        judge.observe(physics.look())
    assert judge.failure is Failure.NEVER_APPROACHED  # beside it


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schema": "robosteer.task/2"}, "schema: found 'robosteer.task/2', expected one of robosteer.task/1"),
        (
            {"prompt": "pick up red cube"},
            "prompt: found 'pick up red cube', expected an instruction that the cell has not yet",
        ),
        ({"prompt": " "}, "prompt: found '', expected an instruction"),
        ({"target": "blue house"}, "target: found 'blue house', expected one of block, cube, with or without"),
        ({"target": "pink cube"}, "target: found 'pink cube', expected no colour, or one of red, green"),
        ({"target": "bowl", "success": "lifted", "goal": None}, "target: found 'bowl', expected one of ball, block"),
        ({"goal": None}, "goal: found nothing, expected an object, because success is stacked"),
        ({"goal": "blue cube"}, "goal: found 'blue cube', expected another object than the target"),
        ({"success": "lifted"}, "goal: found 'red cube', expected none, because success is lifted"),
        ({"success": "juggled"}, "success: found 'juggled', expected one of lifted, inside"),
        ({"goal": "red bowl", "success": "inside"}, "tolerances.radius_m: found nothing, expected"),
        ({"tolerances": {"radius": 0.1}}, "tolerances.radius: found an unknown field, expected one of radius_m"),
        ({"tolerances": {"hold_s": -1}}, "tolerances.hold_s: found -1"),
        ({"goal_distance_m": [0.05, 0.3]}, "goal_distance_m: found [0.05, 0.3], expected 0.11 m or more"),
        ({"goal_distance_m": [0.3, 0.31]}, "goal_distance_m: found [0.3, 0.31], expected a range in which every grid"),
        ({"goal_distance_m": [0.3]}, "goal_distance_m: found [0.3], expected the least and the greatest"),
        ({"distractors": ["green cube"]}, "distractors: found ['green cube'], expected none beside a goal"),
        ({"time_limit_s": 0}, "time_limit_s: found 0"),
        ({"colour": "red"}, "colour: found an unknown field, expected one of schema, prompt"),
    ],
)
def test_a_mistake_names_file_and_field(place, fields, message):
    task = place(**fields)
    with pytest.raises(RobosteerError) as caught:
        task_card("another" if task == "pick up red cube" else task)
    assert message in str(caught.value)
    assert "/0.yaml: " in str(caught.value)


def test_places_that_hold_no_task_and_instructions_that_occur_twice(place, tmp_path, monkeypatch):
    task = place()
    with pytest.raises(RobosteerError, match=rf"task: found 'stack', .*'{task}'.*; ROBOSTEER_TASKS names files"):
        task_card("stack")
    place()
    monkeypatch.setenv(VARIABLE, f"{tmp_path}:{tmp_path}")  # Another text, so that it is read again.
    with pytest.raises(RobosteerError, match=r"1\.yaml: prompt: found 'stack blue cube on red cube' a second time"):
        task_card(task)
    (tmp_path / "empty").mkdir()
    for nothing in ("empty", "absent.yaml"):
        monkeypatch.setenv(VARIABLE, str(tmp_path / nothing))
        with pytest.raises(RobosteerError, match=f"ROBOSTEER_TASKS: found no task file at .*{nothing}"):
            task_card(task)
        assert task_card("pick up red cube").target == "red cube"


def test_all_that_decides_a_task_tells_its_card_from_others(place):
    """And the order of the fields, or words for people, do not."""

    def digest(**fields):
        return card_digest(parse_task(yaml.safe_dump(STACK | fields, sort_keys=False), "task"))

    same = digest()
    assert card_digest(parse_task(yaml.safe_dump(STACK, sort_keys=True), "task")) == same
    assert digest(reset="Put the blue one anywhere.") == same
    changes = [
        {"target": "blue block"},
        {"goal": "green cube"},
        {"tolerances": {"hold_s": 0.6}},
        {"goal_distance_m": [0.17, 0.32]},
        {"time_limit_s": 21},
        {"success": "lifted", "goal": None},
        {"success": "lifted", "goal": None, "distractors": ["red cube"]},
    ]
    assert len({same, *(digest(**change) for change in changes)}) == 1 + len(changes)
    assert task_digest("cell", place()) == same
    assert task_digest("cell", "pick up red cube") is None


words = st.text(max_size=12)
values = st.one_of(st.none(), st.booleans(), st.floats(), words, st.lists(st.floats(), max_size=3))
names = st.sampled_from([*STACK, "goal_distance_m", "tolerances", "distractors", "time_limit_s", "reset"])


@given(st.dictionaries(names, values))
def test_whatever_stands_in_a_file_is_a_card_or_one_line(fields):
    said, card = "", None
    try:
        card = parse_task(yaml.safe_dump(STACK | fields), "task x")
    except RobosteerError as error:
        said = str(error)
    assert said.startswith("task x: ") == (card is None)
    assert "\n" not in said


@given(words)
def test_text_that_is_no_card(text):
    with pytest.raises(RobosteerError, match="task x: "):
        parse_task(text, "task x")
