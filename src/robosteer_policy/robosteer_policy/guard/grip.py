"""From the guard's gripper positions to the few goals that a gripper's action server takes well."""

from __future__ import annotations

import dataclasses
import math

from robosteer_rig.errors import RobosteerError


@dataclasses.dataclass(frozen=True)
class GripRules:
    """When a new goal is worth sending.

    Attributes:
        binary: send only fully open and fully closed, decided by hysteresis; else follow the position.
        close_above: a position above this closes (binary).
        open_below: a position below this opens (binary).
        deadband: change that counts (not binary).
        debounce_s: a wish must last so long before it becomes a goal.
        min_interval_s: between two goals; action servers do not preempt quickly.
    """

    binary: bool = True
    close_above: float = 0.6
    open_below: float = 0.4
    deadband: float = 0.05
    debounce_s: float = 0.05
    min_interval_s: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.open_below < self.close_above < 1:
            found = f"open_below={self.open_below}, close_above={self.close_above}"
            raise RobosteerError(f"gripper: found {found}, expected 0 < open_below < close_above < 1")


class GripDecision:
    """Hysteresis and debounce over a stream of positions 0 (open) ... 1 (closed).

    Args:
        rules: see `GripRules`.

    Attributes:
        goal: the last one decided, None before the first.
    """

    def __init__(self, rules: GripRules) -> None:
        self._rules = rules
        self.goal: float | None = None
        self._wish: float | None = None
        self._wish_ns = 0
        self._sent_ns: int | None = None

    def hear(self, position: float, now_ns: int) -> None:
        """Take a position; one that is no number changes nothing."""
        if not math.isfinite(position):
            return
        wish = self._aim(min(max(position, 0.0), 1.0))
        if wish is not None and wish != self._wish:
            fresh = self._wish is None or self._rules.binary or abs(wish - self._wish) > self._rules.deadband
            self._wish, self._wish_ns = wish, (now_ns if fresh else self._wish_ns)

    def due(self, now_ns: int) -> float | None:
        """The goal to send now, once, or None."""
        rules = self._rules
        if self._wish is None or now_ns - self._wish_ns < rules.debounce_s * 1e9:
            return None
        if self._sent_ns is not None and now_ns - self._sent_ns < rules.min_interval_s * 1e9:
            return None
        at_an_end = self._wish in (0.0, 1.0) and self._wish != self.goal
        if self.goal is not None and not at_an_end and abs(self._wish - self.goal) <= rules.deadband:
            return None
        self.goal, self._sent_ns = self._wish, now_ns
        return self.goal

    def _aim(self, position: float) -> float | None:
        if not self._rules.binary:
            return position
        if position > self._rules.close_above:
            return 1.0
        if position < self._rules.open_below:
            return 0.0
        # In between, whatever was decided last stays; at the very start the nearer end.
        return self._wish if self._wish is not None else float(position >= 0.5)
