"""Named sets of numbers an operator can choose from: how fast the target may move, and how the hand is scaled."""

from __future__ import annotations

import dataclasses
import math
from typing import TypeVar

import numpy as np

from robosteer_rig.errors import RobosteerError

MIN_SCALE, MAX_SCALE = 0.2, 1.5
Preset = TypeVar("Preset")


@dataclasses.dataclass(frozen=True)
class MotionLimits:
    """Bounds of the target's motion.

    Attributes:
        speed: m/s.
        acceleration: m/s^2.
        angular_speed: rad/s.
        angular_acceleration: rad/s^2.
        gain: 1/s; speed per distance close to the goal. 50 costs 20 ms of lag.
    """

    speed: float
    acceleration: float
    angular_speed: float
    angular_acceleration: float
    gain: float = 50.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise RobosteerError(f"limits {field.name}: found {value}, expected a number above 0")

    def slowed(self, factor: float) -> MotionLimits:
        """The same with both speeds times `factor` (0 ... 1); accelerations stay, so that it can still brake."""
        return dataclasses.replace(self, speed=self.speed * factor, angular_speed=self.angular_speed * factor)


LIMITS = {
    "teach": MotionLimits(0.25, 2.0, 1.0, 8.0),
    "normal": MotionLimits(0.5, 3.0, 1.5, 9.0),
    "ceiling": MotionLimits(1.0, 5.0, 2.25, 11.0),
}


@dataclasses.dataclass(frozen=True)
class Scaling:
    """How the hand's motion becomes the target's.

    Attributes:
        translation: target metres per hand metre.
        rotation: target radians per hand radian.
    """

    translation: float = 1.0
    rotation: float = 1.0

    def __post_init__(self) -> None:
        for name in ("translation", "rotation"):
            value = getattr(self, name)
            if not MIN_SCALE <= value <= MAX_SCALE:
                raise RobosteerError(f"scaling {name}: found {value}, expected {MIN_SCALE} ... {MAX_SCALE}")


SCALINGS = {"full": Scaling(), "precision": Scaling(0.4, 0.4)}


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Where the target may be.

    Attributes:
        lower: (3,) m, corner of the box in the base frame; its z is the floor.
        upper: (3,) m.
        leash_m: largest distance from the measured pose.
        leash_rad: largest angle from it.
    """

    lower: tuple[float, float, float] = (0.15, -0.6, 0.005)
    upper: tuple[float, float, float] = (0.8, 0.6, 1.0)
    leash_m: float = 0.08
    leash_rad: float = 0.5

    def __post_init__(self) -> None:
        low, high = np.array(self.lower), np.array(self.upper)
        if low.shape != (3,) or high.shape != (3,) or not bool((low < high).all()):
            raise RobosteerError(f"box: found {self.lower} ... {self.upper}, expected lower < upper on 3 axes")
        if not (self.leash_m > 0 and 0 < self.leash_rad < math.pi / 2):
            raise RobosteerError(
                f"leash: found {self.leash_m} m and {self.leash_rad} rad, expected above 0 m and 0 ... 1.57 rad"
            )


def choose(table: dict[str, Preset], name: str, what: str) -> Preset:
    """Look a preset up by name.

    Raises:
        RobosteerError: naming the valid names.
    """
    if name not in table:
        raise RobosteerError(f"{what}: found {name!r}, expected one of {', '.join(table)}")
    return table[name]
