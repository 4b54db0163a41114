"""When a task counts as done: tolerances, and what must be the case at one instant."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Protocol

import numpy as np

from robosteer_rig.environment import Failure
from robosteer_sim.instant import Instant
from robosteer_sim.shapes import BUTTON_TRAVEL_M

UPRIGHT = math.cos(math.radians(20.0))
"""Cosine of the tilt up to which something stands."""
RAISED_M = 0.02
"""An object that both pads hold so high has been taken hold of."""
PUSHED_M = 0.02
PRESSED_SHARE = 0.1
GOAL_REACH_M = 0.12
"""What was released nearer to its goal than this was misplaced, not dropped."""


class Criterion(Protocol):
    """Says whether the goal is reached at an instant; it must be for `hold_s` without a break."""

    @property
    def hold_s(self) -> float:
        """How long, s."""
        ...

    def met(self, now: Instant, target: int, goal: int | None) -> bool:
        """Whether the goal is reached now.

        Args:
            now: what is to be seen.
            target: number of the task's object.
            goal: number of the object that it is to be brought to.
        """
        ...

    def begun(self, now: Instant, target: int, start: np.ndarray) -> bool:
        """Whether the target is being acted upon as the task asks.

        Args:
            now: what is to be seen.
            target: number of the task's object.
            start: (n, 3) m: where everything was at first.
        """
        ...

    def setback(self, now: Instant, target: int, goal: int | None, start: np.ndarray) -> Failure | None:
        """What has gone wrong since the task was begun, arguments as before; None for nothing."""
        ...


def _taken(now: Instant, target: int) -> bool:
    return bool(now.heights[target] > RAISED_M) and now.gripped(target)


def _apart(positions: np.ndarray, first: int, second: int) -> float:
    """Horizontal distance of two objects, m."""
    return float(np.linalg.norm(positions[first, :2] - positions[second, :2]))


@dataclasses.dataclass(frozen=True)
class Lifted:
    """Held high enough, with both pads in contact.

    Attributes:
        height_m: over its place on the table.
        hold_s: for how long.
    """

    height_m: float = 0.05
    hold_s: float = 0.5

    def met(self, now: Instant, target: int, goal: int | None) -> bool:
        """Whether the target is held up now."""
        return bool(now.heights[target] >= self.height_m) and now.gripped(target)

    def begun(self, now: Instant, target: int, start: np.ndarray) -> bool:
        """Whether the target is off the table, held."""
        return _taken(now, target)

    def setback(self, now: Instant, target: int, goal: int | None, start: np.ndarray) -> Failure | None:
        """Dropped unless held."""
        return None if now.gripped(target) else Failure.DROPPED


class _Brought(abc.ABC):
    """What tasks have in common that take an object and let go of it somewhere else."""

    @abc.abstractmethod
    def met(self, now: Instant, target: int, goal: int | None) -> bool:
        """Whether the target is there now."""

    def begun(self, now: Instant, target: int, start: np.ndarray) -> bool:
        """Whether the target is off the table, held."""
        return _taken(now, target)

    def setback(self, now: Instant, target: int, goal: int | None, start: np.ndarray) -> Failure | None:
        """Dropped or misplaced unless held or where it belongs."""
        if now.gripped(target) or self.met(now, target, goal):
            return None
        near = goal is not None and _apart(now.positions, target, goal) < GOAL_REACH_M
        return Failure.MISPLACED if near else Failure.DROPPED


@dataclasses.dataclass(frozen=True)
class Inside(_Brought):
    """Released inside a vessel that stands.

    What counts is the target's lower end, or its centre if it has no ends.

    Attributes:
        radius_m: about the vessel's axis.
        height_m: over its bottom.
        hold_s: for how long.
    """

    radius_m: float
    height_m: float
    hold_s: float = 0.4

    def met(self, now: Instant, target: int, goal: int | None) -> bool:
        """Whether the target is inside now."""
        if goal is None or now.padded(target) or now.upright(goal) < UPRIGHT:
            return False
        x, y, z = now.inside(goal, now.lowest_point(target))
        return math.hypot(x, y) < self.radius_m and -0.01 < z < self.height_m


@dataclasses.dataclass(frozen=True)
class Stacked(_Brought):
    """Released on top of another object, and off the table.

    Attributes:
        radius_m: between the two centres, sideways.
        hold_s: for how long.
    """

    radius_m: float = 0.018
    hold_s: float = 0.5

    def met(self, now: Instant, target: int, goal: int | None) -> bool:
        """Whether the target lies on the goal now."""
        return (
            goal is not None
            and not now.padded(target)
            and now.touching(target, goal)
            and bool(now.heights[target] > RAISED_M)
            and _apart(now.positions, target, goal) < self.radius_m
        )


@dataclasses.dataclass(frozen=True)
class Pressed:
    """A button pressed nearly all the way.

    Attributes:
        share: of the cap's travel.
        hold_s: for how long.
    """

    share: float = 0.9
    hold_s: float = 0.0

    def met(self, now: Instant, target: int, goal: int | None) -> bool:
        """Whether the button is down now."""
        return bool(-now.heights[target] > self.share * BUTTON_TRAVEL_M)

    def begun(self, now: Instant, target: int, start: np.ndarray) -> bool:
        """Whether the cap has gone down at all."""
        return bool(-now.heights[target] > PRESSED_SHARE * BUTTON_TRAVEL_M)

    def setback(self, now: Instant, target: int, goal: int | None, start: np.ndarray) -> Failure | None:
        """A button cannot be lost."""
        return None


@dataclasses.dataclass(frozen=True)
class PushedTo:
    """Touching another object, both standing on the table, and not carried there.

    Attributes:
        height_m: over the table from which on the target counts as carried.
        hold_s: for how long.
    """

    height_m: float = 0.01
    hold_s: float = 0.0

    def met(self, now: Instant, target: int, goal: int | None) -> bool:
        """Whether the target touches the goal now."""
        return (
            goal is not None
            and now.touching(target, goal)
            and bool(now.heights[target] < self.height_m)
            and min(now.upright(target), now.upright(goal)) >= UPRIGHT
        )

    def begun(self, now: Instant, target: int, start: np.ndarray) -> bool:
        """Whether the target has moved."""
        return float(np.linalg.norm(now.positions[target, :2] - start[target, :2])) > PUSHED_M

    def setback(self, now: Instant, target: int, goal: int | None, start: np.ndarray) -> Failure | None:
        """Misplaced if it is farther from its goal than at first."""
        if goal is None:
            return None
        farther = _apart(now.positions, target, goal) - _apart(start, target, goal)
        return Failure.MISPLACED if farther > PUSHED_M else None
