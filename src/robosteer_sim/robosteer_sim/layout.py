"""From a scene to where everything lies: the same scene always gives the same layout."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from robosteer_rig.environment import Scene
from robosteer_rig.errors import RobosteerError
from robosteer_sim.objects import KINDS, Colour, colour_of, form_of, kind_of
from robosteer_sim.tasks import TaskCard, task_card

GRID_ROWS, GRID_COLUMNS = 5, 8
GRID_CELLS = GRID_ROWS * GRID_COLUMNS
REGION_CENTRE_M = (0.52, 0.0)
REGION_SIZE_M = (0.28, 0.50)
JITTER_M = 0.012
"""Half the width of the uniform scatter about a grid cell's centre."""
DISTRACTOR_DISTANCE_M = 0.12
MAX_YAW_RAD = math.pi / 4
"""A cube looks the same after a quarter turn, so this covers every yaw."""

VARIATIONS = {
    "": "nothing changed",
    "lighting": "a dim room with a bright lamp on one side",
    "form": "objects of other sizes; marker and mug of other colours, too",
    "distractors": "up to four more objects on the table",
    "camera": "cameras up to 8 cm and 5 degrees out of their places",
    "randomised": "random light, colours and table, cameras a little out of their places; for pretraining",
}
DISTRACTORS = ("purple cube", "grey cube", "purple ball", "grey ball", "blue block", "yellow block")
"""The variation `distractors` draws four of them; no task asks for any."""
CLEARANCE_M = 0.05
"""Free room around an object that is added to a scene: a finger and a little more."""

# One stream of random numbers per purpose: a new purpose must not change the layouts of old scenes.
_PLACES, _DISTRACTOR, EXPERT_STREAM, DISTURBANCE_STREAM, VARIATION_STREAM, OBJECT_STREAM = range(6)


@dataclasses.dataclass(frozen=True)
class PlacedObject:
    """An object on the table.

    Attributes:
        name: such as "red cube".
        position: x, y in the robot's base frame, m.
        yaw: rad, within plus or minus its kind's `max_yaw`.
        form: number of the kind's form.
        rgba: its colour; None for the form's own, or the one that its name says.
    """

    name: str
    position: tuple[float, float]
    yaw: float
    form: int = 0
    rgba: Colour | None = None

    @property
    def slot(self) -> tuple[str, int]:
        """Kind and form."""
        return kind_of(self.name), self.form

    @property
    def radius(self) -> float:
        """Of the footprint, m."""
        kind, form = form_of(self.name, self.form)
        return kind.radius(form.size)


def scene_random(scene: Scene, stream: int) -> np.random.Generator:
    """The scene's random numbers for one purpose; they do not depend on the task, so colours can be compared."""
    return np.random.default_rng([scene.seed, scene.grid_cell, stream])


def grid_centre(cell: int) -> np.ndarray:
    """(2,) m: the centre of a grid cell. Row 0 is nearest to the robot, column 0 is on its right (y < 0)."""
    row, column = divmod(cell, GRID_COLUMNS)
    fraction = np.array([(row + 0.5) / GRID_ROWS - 0.5, (column + 0.5) / GRID_COLUMNS - 0.5])
    return np.asarray(REGION_CENTRE_M) + fraction * REGION_SIZE_M


def check_scene(scene: Scene) -> None:
    """Refuse a scene that does not exist.

    Raises:
        RobosteerError: naming the field.
    """
    task_card(scene.task)
    if not 0 <= scene.grid_cell < GRID_CELLS:
        raise RobosteerError(f"grid_cell: found {scene.grid_cell}, expected 0 ... {GRID_CELLS - 1}")
    if scene.seed < 0:
        raise RobosteerError(f"seed: found {scene.seed}, expected a number that is not negative")
    if scene.variation not in VARIATIONS:
        named = sorted(filter(None, VARIATIONS))
        raise RobosteerError(f"variation: found {scene.variation!r}, expected one of {named}, or '' for none")


def _scatter(random: np.random.Generator, cell: int) -> np.ndarray:
    return grid_centre(cell) + random.uniform(-JITTER_M, JITTER_M, size=2)


def lay_out(scene: Scene, distractors: Sequence[str] | None = None) -> tuple[PlacedObject, ...]:
    """Place the target, then its goal or one distractor, then what the variation adds.

    Args:
        scene: the starting condition.
        distractors: objects to draw the distractor from instead of the task card's; empty for none. A task with a goal
            has none.

    Returns:
        The target first.

    Raises:
        RobosteerError: for a scene that does not exist, or the target among its own distractors.
    """
    check_scene(scene)
    card = task_card(scene.task)
    if card.distractors:
        placed = _lay_out_distractor(scene, card, card.distractors if distractors is None else tuple(distractors))
    else:
        placed = _lay_out_goal(scene, card)
    return _vary(scene, placed, has_goal=card.goal is not None)


def _lay_out_distractor(scene: Scene, card: TaskCard, choices: tuple[str, ...]) -> tuple[PlacedObject, ...]:
    """The target in its grid cell, and one of the others somewhere else."""
    if card.target in choices:
        raise RobosteerError(f"distractors: found {card.target!r}, expected other objects than the task's target")
    random = scene_random(scene, _PLACES)
    yaws = random.uniform(-MAX_YAW_RAD, MAX_YAW_RAD, size=2)
    place = _scatter(random, scene.grid_cell)
    target = PlacedObject(card.target, (float(place[0]), float(place[1])), float(yaws[0]))
    if not choices:
        return (target,)
    other = _distractor_place(random, scene.grid_cell, place)
    name = choices[int(scene_random(scene, _DISTRACTOR).integers(len(choices)))]
    return target, PlacedObject(name, (float(other[0]), float(other[1])), float(yaws[1]))


def _vary(scene: Scene, placed: tuple[PlacedObject, ...], *, has_goal: bool) -> tuple[PlacedObject, ...]:
    """The objects as the scene's variation wants them, where they were."""
    random = scene_random(scene, OBJECT_STREAM)
    match scene.variation:
        case "form":
            return tuple(
                dataclasses.replace(o, form=int(random.integers(1, max(2, len(KINDS[o.slot[0]].forms)))))
                for o in placed
            )
        case "distractors":
            names = [str(name) for name in random.permutation(DISTRACTORS)[:4]]
            return add_around(placed, names, random, has_goal=has_goal)
        case "randomised":
            return tuple(dataclasses.replace(o, rgba=_tinted(random, colour_of(o.name, o.form))) for o in placed)
        case _:
            return placed


def _tinted(random: np.random.Generator, colour: Colour) -> Colour:
    """A colour of the same name, a little different."""
    r, g, b = np.clip(np.array(colour[:3]) * random.uniform(0.8, 1.2) + random.uniform(-0.04, 0.04, 3), 0.0, 1.0)
    return float(r), float(g), float(b), colour[3]


def _distractor_place(random: np.random.Generator, target_cell: int, target: np.ndarray) -> np.ndarray:
    """(2,) m: a scattered grid cell at least `DISTRACTOR_DISTANCE_M` from the target."""
    for cell in random.permutation(GRID_CELLS):
        place = _scatter(random, int(cell))
        if np.linalg.norm(place - target) >= DISTRACTOR_DISTANCE_M:
            return place
    raise AssertionError(f"the region is larger than the distance, so some cell is far enough from {target_cell}")


def _lay_out_goal(scene: Scene, card: TaskCard) -> tuple[PlacedObject, ...]:
    """The target in its grid cell, and its goal, if it has one, at the card's distance."""
    random = scene_random(scene, _PLACES)
    place = _scatter(random, scene.grid_cell)
    target = PlacedObject(card.target, (float(place[0]), float(place[1])), draw_yaw(random, card.target))
    if card.goal is None:
        return (target,)
    near, far = card.goal_distance_m
    for cell in random.permutation(GRID_CELLS):
        other = _scatter(random, int(cell))
        if near <= np.linalg.norm(other - place) <= far:
            goal = PlacedObject(card.goal, (float(other[0]), float(other[1])), draw_yaw(random, card.goal))
            return target, goal
    raise AssertionError(f"some cell is {near} ... {far} m from every cell, so from {scene.grid_cell}, too")


def draw_yaw(random: np.random.Generator, name: str) -> float:
    """A random yaw of an object, rad."""
    most = KINDS[kind_of(name)].max_yaw
    return float(random.uniform(-most, most))


def add_around(
    objects: Sequence[PlacedObject], names: Sequence[str], random: np.random.Generator, *, has_goal: bool = False
) -> tuple[PlacedObject, ...]:
    """Objects and others around them, as many of the others as find room.

    Args:
        objects: what is there.
        names: what to add.
        random: decides where.
        has_goal: whether the way from the first object to the second must stay free.
    """
    placed = list(objects)
    for name in names:
        for cell in random.permutation(GRID_CELLS):
            x, y = _scatter(random, int(cell))
            other = PlacedObject(name, (float(x), float(y)), draw_yaw(random, name))
            blocks = has_goal and _from_way(other, placed[0], placed[1]) < CLEARANCE_M
            if not blocks and all(_gap(other, p) >= CLEARANCE_M for p in placed):
                placed.append(other)
                break
    return tuple(placed)


def _from_way(other: PlacedObject, start: PlacedObject, end: PlacedObject) -> float:
    """Free distance (m) between an object and what the first of two sweeps on its way to the second."""
    a, b, p = (np.array(o.position) for o in (start, end, other))
    along = np.clip((p - a) @ (b - a) / ((b - a) @ (b - a)), 0.0, 1.0)
    return float(np.linalg.norm(p - a - along * (b - a))) - other.radius - start.radius


def _gap(first: PlacedObject, second: PlacedObject) -> float:
    """Free distance between two footprints, m."""
    return math.dist(first.position, second.position) - first.radius - second.radius
