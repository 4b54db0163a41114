"""What the guard hears: messages reduced to plain values, checked for form, order and age."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


@dataclasses.dataclass(frozen=True)
class Instant:
    """The same moment on two clocks.

    Attributes:
        steady_ns: monotonic clock; all ages and periods are measured on it.
        clock_ns: the clock that stamps are written with (ROS time); it may jump.
    """

    steady_ns: int
    clock_ns: int


@dataclasses.dataclass(frozen=True)
class Command:
    """One joint-velocity command as it came off the wire.

    Attributes:
        stamp_ns: time of issue on the stamping clock.
        names: joint names, any order.
        velocity: rad/s, in the order of `names`.
        foreign: whether fields are filled that a command leaves empty (position, effort): then it is a
            measurement that ended up on the wrong topic.
        publisher: identity of the writer, where the middleware tells it.
    """

    stamp_ns: int
    names: Sequence[str]
    velocity: ArrayLike
    foreign: bool = False
    publisher: bytes | None = None


class StampCheck:
    """Accepts strictly increasing, fresh stamps, and translates them to the monotonic clock.

    Attributes:
        issued_ns: monotonic time of issue of the last accepted message, None before the first.
    """

    def __init__(self, max_age_s: float, future_s: float) -> None:
        self._max_age_ns = int(max_age_s * 1e9)
        self._future_ns = int(future_s * 1e9)
        self.reset()

    def reset(self) -> None:
        """Forget all stamps, as after a change of writer or of clock."""
        self._last_ns: int | None = None
        self.issued_ns: int | None = None

    def reject(self, stamp_ns: int, now: Instant) -> str:
        """Say what is wrong with a stamp, or accept it and return an empty string."""
        age = now.clock_ns - stamp_ns
        if age < -self._future_ns:
            return f"stamp {-age / 1e6:.0f} ms in the future"
        if age > self._max_age_ns:
            return f"stamp {age / 1e6:.0f} ms old"
        if self._last_ns is not None and stamp_ns == self._last_ns:
            return "duplicated stamp"
        if self._last_ns is not None and stamp_ns < self._last_ns:
            return "reordered stamp"
        self._last_ns = stamp_ns
        self.issued_ns = now.steady_ns - max(age, 0)
        return ""

    def age_s(self, now: Instant) -> float:
        """Age of the last accepted message in s; infinite before the first."""
        return float("inf") if self.issued_ns is None else (now.steady_ns - self.issued_ns) * 1e-9


def speed_between(
    before: np.ndarray | None, before_ns: int | None, after: np.ndarray, after_ns: int | None
) -> np.ndarray:
    """Mean speed between two measurements of (n,) rad, rad/s; infinite where there is only one."""
    if before is None or before_ns is None or after_ns is None or after_ns <= before_ns:
        return np.full(after.shape, np.inf)
    return (after - before) / ((after_ns - before_ns) * 1e-9)


def by_name(names: Sequence[str], values: ArrayLike, joints: Sequence[str], *, exact: bool) -> np.ndarray | str:
    """Values in the order of `joints`, matched by name.

    Args:
        names: as many as `values`, each at most once.
        values: one per name.
        joints: the wanted joints.
        exact: whether other joints are forbidden.

    Returns:
        (len(joints),) finite float64, or one phrase that says what is wrong.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return "values are not numbers"
    if array.shape != (len(names),):
        return f"found {array.size} values for {len(names)} names"
    index = {name: i for i, name in enumerate(names)}
    if len(index) != len(names):
        return "a joint is named twice"
    if missing := [joint for joint in joints if joint not in index]:
        return f"missing joints {missing}"
    if exact and len(names) != len(joints):
        return f"unknown joints {sorted(set(names) - set(joints))}"
    ordered = array[[index[joint] for joint in joints]]
    return ordered if np.isfinite(ordered).all() else "values are not finite"
