"""Tasks of the user's own: task cards in YAML files, named by the environment variable `ROBOSTEER_TASKS`.

An environment variable, because everything that speaks of a task has to know the card: the checks before a launch, the
cell, the scripted operator, the workers of an evaluation. They are processes of several packages, and inherit it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from robosteer_rig.errors import RobosteerError
from robosteer_rig.fields import FieldError, build, require
from robosteer_sim.criteria import Criterion, Inside, Lifted, Pressed, PushedTo, Stacked
from robosteer_sim.layout import CLEARANCE_M, GRID_CELLS, JITTER_M, grid_centre
from robosteer_sim.objects import COLOURS, KINDS, kind_of
from robosteer_sim.tasks import TASKS, TaskCard

VARIABLE = "ROBOSTEER_TASKS"
_MAX_BYTES = 20_000


@dataclasses.dataclass(frozen=True)
class Success:
    """A way to succeed.

    Attributes:
        criterion: that decides.
        kinds: of targets that the scripted expert can handle, each with those of goals; none where there is no goal.
        doing: what is done to the target, as a participle.
    """

    criterion: type[Criterion]
    kinds: Mapping[str, tuple[str, ...]]
    doing: str = "lifted"


SUCCESS: Mapping[str, Success] = {
    "lifted": Success(Lifted, dict.fromkeys(("cube", "block", "ball", "marker", "mug"), ())),
    "inside": Success(Inside, {"cube": ("bowl",), "ball": ("bowl",), "marker": ("bowl", "cup", "mug")}),
    "stacked": Success(Stacked, dict.fromkeys(("cube", "block"), ("cube", "block"))),
    "pressed": Success(Pressed, {"button": ()}, "pressed"),
    "pushed_to": Success(PushedTo, {"cup": ("bowl",)}, "pushed"),
}


@dataclasses.dataclass(frozen=True)
class TaskFile:
    """What stands in a file.

    Attributes:
        schema: of this format.
        prompt: the instruction, which is also the task's name.
        target: the object that is acted upon, such as "blue cube".
        success: when the task is done.
        goal: the object that the target is brought to.
        goal_distance_m: least and greatest distance between the two at the start.
        tolerances: fields of the criterion, where its defaults do not fit.
        distractors: objects one of which lies in the scene, too; for tasks without a goal.
        time_limit_s: after which an attempt counts as failed.
        reset: how a scene is set up, for people.
    """

    schema: Literal["robosteer.task/1"]
    prompt: str
    target: str
    success: Literal["lifted", "inside", "stacked", "pressed", "pushed_to"]
    goal: str | None = None
    goal_distance_m: tuple[float, ...] = (0.16, 0.32)
    tolerances: dict[str, float] = dataclasses.field(default_factory=dict)
    distractors: tuple[str, ...] = ()
    time_limit_s: float = 20.0
    reset: str = ""

    def card(self) -> TaskCard:
        """The task card.

        Raises:
            FieldError: for an object, a distance or a tolerance that makes no scene.
        """
        way = SUCCESS[self.success]
        prompt = " ".join(self.prompt.split())
        require(prompt != "" and prompt not in TASKS, "prompt", prompt, "an instruction that the cell has not yet")
        require(self.time_limit_s > 0, "time_limit_s", self.time_limit_s, "more than 0 s")
        _require_object("target", self.target, way.kinds)
        near_far = self._check_goal(way.kinds[kind_of(self.target)])
        return TaskCard(
            prompt=prompt,
            target=self.target,
            success=self._criterion(way.criterion),
            reset=self.reset or f"The {self.target} lies in its cell of the grid, at a random yaw.",
            goal=self.goal,
            goal_distance_m=near_far,
            distractors=self.distractors,
            doing=way.doing,
            time_limit_s=self.time_limit_s,
        )

    def _check_goal(self, kinds: Collection[str]) -> tuple[float, float]:
        """Distances of the goal, m; refuses what cannot lie beside the target."""
        if not kinds:
            require(self.goal is None, "goal", self.goal, f"none, because success is {self.success}")
            for name in self.distractors:
                _require_object("distractors", name, KINDS)
                require(name != self.target, "distractors", name, "other objects than the target")
            return 0.0, 0.0
        if self.goal is None:
            raise FieldError("goal", f"found nothing, expected an object, because success is {self.success}")
        _require_object("goal", self.goal, kinds)
        require(self.goal != self.target, "goal", self.goal, "another object than the target")
        require(not self.distractors, "distractors", list(self.distractors), "none beside a goal")
        return _distances(self.goal_distance_m, self.target, self.goal)

    def _criterion(self, kind: type[Criterion]) -> Criterion:
        try:
            criterion = build(kind, self.tolerances)
        except FieldError as error:
            raise error.under("tolerances") from None
        for name, value in self.tolerances.items():
            require(value >= 0, f"tolerances.{name}", value, "0 or more")
        return criterion


def _require_object(field: str, name: str, kinds: Collection[str]) -> None:
    """Refuse an object that the cell cannot build, or that is not of these kinds."""
    *colour, kind = name.split() or [""]
    require(kind in kinds, field, name, f"one of {', '.join(sorted(kinds))}, with or without a colour before it")
    known = len(colour) < 2 and set(colour) <= set(COLOURS) and name == " ".join([*colour, kind])
    require(known, field, name, f"no colour, or one of {', '.join(COLOURS)}")


def _distances(given: tuple[float, ...], target: str, goal: str) -> tuple[float, float]:
    """The two distances, m, if the goal finds a place on the grid wherever the target lies."""
    field = "goal_distance_m"
    require(len(given) == 2 and given[0] < given[1], field, list(given), "the least and the greatest distance, m")
    room = sum(KINDS[kind_of(name)].radius(KINDS[kind_of(name)].forms[0].size) for name in (target, goal)) + CLEARANCE_M
    require(given[0] >= room, field, list(given), f"{room:.2f} m or more between the two")
    centres = np.array([grid_centre(cell) for cell in range(GRID_CELLS)])
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    slack = 2 * JITTER_M * 2**0.5
    found = ((apart >= given[0] + slack) & (apart <= given[1] - slack)).any(axis=1)
    require(bool(found.all()), field, list(given), "a range in which every grid cell has another, such as [0.16, 0.32]")
    return given[0], given[1]


def parse_task(text: str, source: str) -> TaskCard:
    """Read one task card from YAML text.

    Raises:
        RobosteerError: "<source>: <field>: found X, expected Y".
    """
    try:
        return build(TaskFile, yaml.safe_load(text)).card()
    except FieldError as error:
        raise RobosteerError(f"{source}: {error}") from None
    except yaml.YAMLError:
        raise RobosteerError(f"{source}: found text that is not YAML, expected a task") from None


def own_tasks() -> Mapping[str, TaskCard]:
    """The task cards that `ROBOSTEER_TASKS` names, by instruction; read once per process.

    Raises:
        RobosteerError: for a file that is missing or wrong, or an instruction that occurs twice.
    """
    return _read(os.environ.get(VARIABLE, ""))


def own_digest(prompt: str) -> str | None:
    """Digest of a card of the user's own; None for a task of the cell's."""
    card = own_tasks().get(prompt)
    return None if card is None else card_digest(card)


def card_digest(card: TaskCard) -> str:
    """Digest of all that decides scenes and outcomes."""
    content = dataclasses.asdict(card) | {"criterion": type(card.success).__name__}
    del content["reset"]  # Words for people.
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@functools.lru_cache(maxsize=4)
def _read(places: str) -> Mapping[str, TaskCard]:
    cards: dict[str, TaskCard] = {}
    for path in _files(places):
        card = parse_task(_text(path), f"task {path}")
        if card.prompt in cards:
            raise RobosteerError(f"task {path}: prompt: found {card.prompt!r} a second time, expected it once")
        cards[card.prompt] = card
    return cards


def _files(places: str) -> Iterator[Path]:
    for place in filter(None, places.split(os.pathsep)):
        path = Path(place).expanduser()
        files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
        if not files or not files[0].is_file():
            raise RobosteerError(f"{VARIABLE}: found no task file at {path}, expected a file or a directory of *.yaml")
        yield from files


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise RobosteerError(f"task {path}: found more than {_MAX_BYTES} bytes, expected a task")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RobosteerError(f"task {path}: found an unreadable file ({error}), expected YAML text") from None
