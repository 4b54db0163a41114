"""What a place to try policies in offers, so that training and evaluation know no simulator by name.

Packages announce environments in the entry-point group `robosteer.environments`; each entry is a callable
`(rig: Rig) -> Environment`. Under the same name in `robosteer.scene_checks` there may be a callable `(scene: Scene)`
that raises `RobosteerError` for a scene that the environment would refuse, without building anything, and in
`robosteer.task_digests` a callable `(task: str) -> str | None`: the digest of what the user has said about a task.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Protocol

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_rig.frame import Frame

if TYPE_CHECKING:
    from robosteer_rig.rig import Rig

ENTRY_POINT_GROUP = "robosteer.environments"
SCENE_CHECK_GROUP = "robosteer.scene_checks"
TASK_DIGEST_GROUP = "robosteer.task_digests"


@dataclasses.dataclass(frozen=True)
class Scene:
    """One reproducible starting condition.

    Attributes:
        task: the instruction, for example "pick up red cube".
        grid_cell: index of the 5 x 8 placement grid of the task's main object, 0 ... 39.
        seed: everything else that varies (yaw, distractors, jitter).
        variation: name of a change of conditions, such as a light or another object's form; the environment lists its
            own; "" for the ordinary ones.
    """

    task: str
    grid_cell: int
    seed: int
    variation: str = ""


class Failure(enum.StrEnum):
    """Why an attempt has not succeeded: what went wrong last on the way to the goal."""

    NEVER_APPROACHED = "never_approached"
    """The tool never came near the object that the task is about."""
    MISSED = "missed"
    """It came near, but never held, pressed or moved it."""
    DROPPED = "dropped"
    """The object was held and lost, away from the goal."""
    MISPLACED = "misplaced"
    """The object was brought somewhere else than the goal, or out of reach."""
    KNOCKED_OVER = "knocked_over"
    """Something that must stand lies."""
    WRONG_OBJECT = "wrong_object"
    """The task was done, or begun, with another object."""
    TIMED_OUT = "timed_out"
    """All went well so far; there was not enough time, or strength, to finish."""


class Environment(Protocol):
    """A cell that runs in this process, one control step at a time."""

    def reset(self, scene: Scene) -> Frame:
        """Set the scene up, arm in the ready pose, and return its first frame."""
        ...

    def step(self, joint_velocity: np.ndarray, gripper: float, *, look: bool = True) -> Frame:
        """Hold a command for one control period.

        Args:
            joint_velocity: (7,) rad/s.
            gripper: 0 open ... 1 closed.
            look: whether the frame's images are wanted; drawing them costs more than the rest of the step.

        Returns:
            The frame after the period, without images if nobody looks.
        """
        ...

    @property
    def success(self) -> bool:
        """Whether the task's success criterion has been met since the last reset."""
        ...

    @property
    def failure(self) -> Failure | None:
        """Why the attempt would count as failed if it ended now; None once it has succeeded."""
        ...

    @property
    def time_limit_s(self) -> float:
        """Simulated time after which an attempt at the present scene's task counts as failed."""
        ...

    def demonstrate(self, scene: Scene, *, disturbance: float = 0.0) -> Iterator[tuple[Frame, np.ndarray]]:
        """Reset, then let the scripted expert act.

        Args:
            scene: the starting condition.
            disturbance: standard deviation in rad/s of pushes on the joints that the expert has to correct.

        Yields:
            Frame at t_k and the expert's action (8,) for [t_k, t_k+1): 7 joint velocities in rad/s and the gripper.
        """
        ...

    def object_positions(self) -> dict[str, np.ndarray]:
        """Ground truth, object name -> (3,) m in the robot's base frame; for auxiliary losses and analysis only."""
        ...

    def close(self) -> None:
        """Free the renderer."""
        ...


def make_environment(name: str, rig: Rig) -> Environment:
    """Build the environment announced under `name`.

    Raises:
        RobosteerError: for an unknown name; the message lists the installed ones.
    """
    return _announced(name).load()(rig)


def check_scenes(name: str, scenes: Iterable[Scene]) -> None:
    """Refuse scenes that the environment `name` does not know, before anything is loaded or started for them.

    An environment that announces no check refuses them itself, later.

    Raises:
        RobosteerError: for an unknown environment, task, cell or variation.
    """
    _announced(name)
    for entry in entry_points(group=SCENE_CHECK_GROUP, name=name):
        check = entry.load()
        for scene in scenes:
            check(scene)


def task_digest(name: str, task: str) -> str | None:
    """What tells tasks of one name apart in the environment `name`; None for a task of the environment's own.

    Raises:
        RobosteerError: for an unknown environment.
    """
    _announced(name)
    found = [entry.load()(task) for entry in entry_points(group=TASK_DIGEST_GROUP, name=name)]
    return found[0] if found else None


def _announced(name: str) -> EntryPoint:
    found = {e.name: e for e in entry_points(group=ENTRY_POINT_GROUP)}
    if name not in found:
        raise RobosteerError(f"environment: found {name!r}, expected one of {sorted(found)}")
    return found[name]
