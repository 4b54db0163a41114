"""The judge, on episodes made through physics.

Pins: a criterion that is met too early (a short lift, a cube over the bowl, a cup that was carried or lies, a half
pressed button) or not at all; success undone by what happens later; a failure with the wrong reason, or with none.
"""

import numpy as np
import pytest

from robosteer_rig.environment import Failure, Scene
from robosteer_sim.cell_model import TIME_STEP_S
from robosteer_sim.judge import Judge
from robosteer_sim.layout import PlacedObject, lay_out
from robosteer_sim.motion import Phase
from robosteer_sim.panda import READY_POSITION
from robosteer_sim.physics import CellPhysics
from robosteer_sim.rehearsal import rehearse
from robosteer_sim.shapes import BUTTON_TRAVEL_M
from robosteer_sim.tasks import TASKS, task_card

MARKER, BUTTON = "place marker in mug", "press red button hard"
CUBE, PLACE, PUSH = "pick up red cube", "place green cube in red bowl", "push red cup to red bowl"
MUG = "pick up mug"
TIP = np.array([0.4405, 0.0])  # below the pads in the ready pose


@pytest.fixture(scope="module")
def physics():
    return CellPhysics()


class Table:
    """A cell whose objects a hand from outside puts where it likes."""

    def __init__(self, physics, task, *objects):
        self.physics, self.judge = physics, Judge(task_card(task))
        physics.reset(objects)
        self.wait(0.05)

    def wait(self, seconds, velocity=None, gripper=0.0):
        for _ in range(round(seconds / TIME_STEP_S)):
            self.physics.step(np.zeros(7) if velocity is None else np.asarray(velocity), gripper)
            self.judge.observe(self.physics.look())

    def put(self, joint, position, quaternion=(1.0, 0.0, 0.0, 0.0)):
        place = self.physics.model.joint(joint)
        self.physics.data.qpos[place.qposadr[0] :][:7] = [*position, *quaternion]
        self.physics.data.qvel[place.dofadr[0] :][:6] = 0

    def slide(self, joint, start, end, seconds):
        """Move an object evenly from one place to another."""
        for share in np.linspace(0, 1, max(2, round(seconds / TIME_STEP_S))):
            self.put(joint, np.array(start) + share * np.subtract(end, start))
            self.wait(TIME_STEP_S)

    @property
    def verdict(self):
        assert self.judge.success == (self.judge.failure is None) == (not self.judge.detail)
        return "success" if self.judge.success else self.judge.failure


BOWL, FAR_BOWL = PlacedObject("red bowl", (0.55, 0.15), 0.0), PlacedObject("red bowl", (0.60, 0.20), 0.0)
GREEN = PlacedObject("green cube", (0.45, -0.15), 0.0)


def test_before_anything_happens_nothing_was_approached(physics):
    for task in TASKS:
        table = Table(physics, task, *lay_out(Scene(task, 39, 0)))
        assert table.verdict is Failure.NEVER_APPROACHED
        assert "away at best" in table.judge.detail
    assert Judge(task_card(CUBE)).failure is Failure.NEVER_APPROACHED


@pytest.mark.parametrize(
    ("place", "seconds", "verdict"),
    [
        ((0.55, 0.15, 0.03), 0.8, "success"),
        ((0.55, 0.15, 0.03), 0.3, Failure.NEVER_APPROACHED),  # not long enough
        ((0.55, 0.02, 0.02), 0.8, Failure.NEVER_APPROACHED),  # beside it
        ((0.55, 0.15, 0.60), 0.1, Failure.NEVER_APPROACHED),  # over it
    ],
)
def test_a_cube_is_in_the_bowl_when_it_lies_there(physics, place, seconds, verdict):
    table = Table(physics, PLACE, GREEN, BOWL)
    table.put("cube_0", place)
    table.wait(seconds)
    assert table.verdict == verdict


def test_a_bowl_upside_down_holds_nothing(physics):
    table = Table(physics, PLACE, GREEN, BOWL)
    table.put("bowl_0", (0.55, 0.15, 0.06), (0.0, 1.0, 0.0, 0.0))
    table.put("cube_0", (0.55, 0.15, 0.02))
    table.wait(0.6)
    assert table.verdict is Failure.KNOCKED_OVER
    assert table.judge.detail == "red bowl lies on its side"


def test_success_is_not_undone_by_what_comes_later(physics):
    table = Table(physics, PLACE, GREEN, BOWL)
    table.put("cube_0", (0.55, 0.15, 0.03))
    table.wait(0.8)
    table.put("cube_0", (0.45, -0.15, 0.02))
    table.put("bowl_0", (0.55, 0.15, 0.08), (0.7071, 0.7071, 0.0, 0.0))
    table.wait(0.5)
    assert table.verdict == "success"


def tipped(degrees):
    """Quaternion of a marker whose x axis points up by so much."""
    half = -np.radians(degrees) / 2
    return np.cos(half), 0.0, np.sin(half), 0.0


def test_a_marker_is_in_the_mug_with_either_end_down_and_not_beside_or_across_it(physics):
    marker, mug = PlacedObject("marker", (0.45, -0.15), 0.0), PlacedObject("mug", (0.55, 0.15), 1.0)
    for degrees in (75, -75):
        table = Table(physics, MARKER, marker, mug)
        table.put("marker_0", (0.55, 0.15, 0.075), tipped(degrees))
        table.wait(1.2)
        assert table.verdict == "success"
    table.put("marker_0", (0.55, 0.15, 0.1), tipped(0))  # across the rim
    table.judge = Judge(task_card(MARKER))
    table.wait(1.0)
    assert table.verdict is Failure.NEVER_APPROACHED


def test_a_button_must_go_down_nearly_all_the_way(physics):
    button = PlacedObject("red button", (0.5, 0.1), 0.0)
    for share, verdict in ((0.5, Failure.TIMED_OUT), (0.95, "success")):
        table = Table(physics, BUTTON, button)
        physics.data.qpos[physics.model.joint("button_0").qposadr[0]] = share * BUTTON_TRAVEL_M
        physics.step(np.zeros(7), 0.0)
        table.judge.observe(physics.look())
        assert table.verdict == verdict


def test_a_cup_must_touch_the_bowl_standing_on_the_table(physics):
    cup = PlacedObject("red cup", (0.45, 0.20), 0.0)
    table = Table(physics, PUSH, cup, FAR_BOWL)
    table.slide("cup_0", (0.45, 0.2, 0.0), (0.47, 0.2, 0.0), 0.5)
    assert table.verdict is Failure.MISSED or table.verdict is Failure.NEVER_APPROACHED
    table.slide("cup_0", (0.47, 0.2, 0.0), (0.488, 0.2, 0.0), 0.3)
    table.wait(0.1)
    assert table.verdict == "success"
    table = Table(physics, PUSH, cup, FAR_BOWL)
    table.slide("cup_0", (0.45, 0.2, 0.04), (0.488, 0.2, 0.04), 0.3)  # carried there
    assert not table.judge.success
    table = Table(physics, PUSH, cup, FAR_BOWL)
    table.slide("cup_0", (0.45, 0.2, 0.0), (0.40, 0.2, 0.0), 0.3)
    assert table.verdict is Failure.MISPLACED  # away from the bowl
    table.put("cup_0", (0.42, 0.2, 0.04), (0.7071, 0.7071, 0.0, 0.0))
    table.wait(0.3)
    assert table.verdict is Failure.KNOCKED_OVER


def test_what_falls_off_the_table_is_misplaced(physics):
    table = Table(physics, PLACE, GREEN, BOWL)
    table.put("cube_0", (0.45, 0.9, 0.02))
    table.wait(0.5)
    assert table.verdict is Failure.MISPLACED
    assert table.judge.detail == "green cube fell off the table"


def test_another_object_moved_instead(physics):
    table = Table(physics, CUBE, *lay_out(Scene(CUBE, 39, 0), ["blue cube"]))
    start = physics.object_poses()["blue cube"][:3]
    table.slide("cube_1", start, start + np.array([0.05, 0, 0]), 0.3)
    assert table.verdict is Failure.WRONG_OBJECT
    assert table.judge.detail == "moved blue cube instead of red cube"


def grasp(physics, table):
    """Hold what hangs between the pads in the ready pose."""
    tip = physics.look().tip
    berth = physics.model.body("cube_0").id
    physics.model.body_gravcomp[berth] = 1.0
    table.put("cube_0", tip)
    table.wait(0.7, gripper=1.0)
    physics.model.body_gravcomp[berth] = 0.0


def test_a_held_object_must_stay_up_for_half_a_second(physics):
    table = Table(physics, CUBE, *lay_out(Scene(CUBE, 39, 0), []))
    grasp(physics, table)
    table.judge = Judge(task_card(CUBE))
    table.wait(0.3, gripper=1.0)
    assert table.verdict is Failure.TIMED_OUT
    table.wait(0.3, gripper=1.0)
    assert table.verdict == "success"
    assert table.judge.lifted == "red cube"


def test_what_was_held_and_let_go_is_dropped_far_from_the_goal_and_misplaced_near_it(physics):
    for away, verdict in ((0.2, Failure.DROPPED), (0.1, Failure.MISPLACED)):
        table = Table(physics, PLACE, GREEN, BOWL)
        grasp(physics, table)
        assert table.verdict is Failure.TIMED_OUT
        table.wait(0.3)
        table.put("cube_0", (0.55, 0.15 - away, 0.02))
        table.wait(0.2)
        assert table.verdict is verdict, table.judge.detail


@pytest.mark.parametrize("task", [CUBE, PLACE, MARKER, BUTTON, PUSH, MUG])
def test_an_arm_that_only_comes_near_has_missed(physics, task):
    found = rehearse(physics, Scene(task, 19, 2), until=lambda e: e.phase not in (Phase.REACH, Phase.DESCEND))
    # The button yields while the hand comes down on it.
    assert found.judge.failure is (None if task == BUTTON else Failure.MISSED), found.judge.detail


def test_the_ready_pose_is_over_the_place_the_tests_assume(physics):
    physics.reset((), READY_POSITION)
    assert np.abs(physics.look().tip[:2] - TIP).max() < 0.02
