"""What the cell can be asked to do: one card per task. `judge.Judge` decides whether it was done."""

from __future__ import annotations

import dataclasses

from robosteer_rig.errors import RobosteerError
from robosteer_sim.criteria import Criterion, Inside, Lifted, Pressed, PushedTo

CUBES = tuple(f"{colour} cube" for colour in ("red", "green", "blue", "yellow"))


@dataclasses.dataclass(frozen=True)
class TaskCard:
    """One task.

    Attributes:
        prompt: the instruction, which is also the task's name.
        target: the object that is acted upon; it lies in the scene's grid cell.
        success: when the task is done, with its tolerances.
        reset: how a scene is set up, for people.
        goal: the object that the target is brought to.
        goal_distance_m: between which distances from the target the goal stands.
        distractors: objects one of which lies in the scene too, drawn from the scene's seed.
        doing: what is done to the target, as a participle.
        time_limit_s: after which an attempt counts as failed.
    """

    prompt: str
    target: str
    success: Criterion
    reset: str
    goal: str | None = None
    goal_distance_m: tuple[float, float] = (0.0, 0.0)
    distractors: tuple[str, ...] = ()
    doing: str = "lifted"
    time_limit_s: float = 12.0


_GRID = "in its cell of the 5 x 8 grid, at a random yaw"


def _pick_up_cube(target: str) -> TaskCard:
    return TaskCard(
        prompt=f"pick up {target}",
        target=target,
        success=Lifted(),
        reset=f"The {target} lies {_GRID}; a cube of another colour lies at least 12 cm away.",
        distractors=tuple(name for name in CUBES if name != target),
    )


def _place_marker(vessel: str, within: Inside, detail: str = "") -> TaskCard:
    return TaskCard(
        prompt=f"place marker in {vessel}",
        target="marker",
        success=within,
        reset=f"The marker lies {_GRID}; the {vessel} stands 18 to 32 cm away{detail}.",
        goal=vessel,
        goal_distance_m=(0.18, 0.32),
        time_limit_s=24.0,
    )


def _press(button: str) -> TaskCard:
    return TaskCard(
        prompt=f"press {button} hard",
        target=button,
        success=Pressed(),
        reset=f"The button is fixed {_GRID}; nothing else is on the table.",
        doing="pressed",
    )


def _place_cube(cube: str, bowl: str) -> TaskCard:
    return TaskCard(
        prompt=f"place {cube} in {bowl}",
        target=cube,
        success=Inside(radius_m=0.06, height_m=0.05),
        reset=f"The {cube} lies {_GRID}; the bowl stands 15 to 32 cm away.",
        goal=bowl,
        goal_distance_m=(0.15, 0.32),
        time_limit_s=20.0,
    )


def _push_cup(cup: str, bowl: str) -> TaskCard:
    return TaskCard(
        prompt=f"push {cup} to {bowl}",
        target=cup,
        success=PushedTo(),
        reset=f"The cup stands {_GRID}; the bowl stands 18 to 30 cm away.",
        goal=bowl,
        goal_distance_m=(0.18, 0.30),
        doing="pushed",
        time_limit_s=24.0,
    )


_PICK_UP_MUG = TaskCard(
    prompt="pick up mug",
    target="mug",
    success=Lifted(),
    reset=f"The mug stands {_GRID}, its handle anywhere; nothing else is on the table.",
)
_OTHERS = (("blue", "yellow"), ("yellow", "blue"))
"""Colours of things acted upon and of bowls, in the relatives of the paper's tasks that a base policy can be taught."""
_CARDS = (
    *map(_pick_up_cube, CUBES),
    _place_marker("mug", Inside(radius_m=0.045, height_m=0.035), ", its handle anywhere"),
    _press("red button"),
    _place_cube("green cube", "red bowl"),
    _push_cup("red cup", "red bowl"),
    _PICK_UP_MUG,
    *(_place_marker(f"{bowl} bowl", Inside(radius_m=0.06, height_m=0.05)) for _, bowl in _OTHERS),
    *(_press(f"{colour} button") for colour, _ in _OTHERS),
    *(_place_cube(f"{colour} cube", f"{bowl} bowl") for colour, bowl in _OTHERS),
    *(_push_cup(f"{colour} cup", f"{bowl} bowl") for colour, bowl in _OTHERS),
)
TASKS: dict[str, TaskCard] = {card.prompt: card for card in _CARDS}
PAPER_TASKS = (
    "place marker in mug",
    "press red button hard",
    "pick up red cube",
    "place green cube in red bowl",
    "push red cup to red bowl",
)
"""The tasks of the paper's first table, in its order; its unseen task is "pick up mug"."""


def task_card(prompt: str) -> TaskCard:
    """The card of an instruction: the cell's own, or one of the user's (`task_files`).

    Raises:
        RobosteerError: for an unknown instruction; the message lists the known ones.
    """
    if prompt in TASKS:
        return TASKS[prompt]
    from robosteer_sim.task_files import VARIABLE, own_tasks

    own = own_tasks()
    if prompt not in own:
        known = sorted([*TASKS, *own])
        raise RobosteerError(f"task: found {prompt!r}, expected one of {known}; {VARIABLE} names files with your own")
    return own[prompt]
