"""Gripper commands: range, change and repetition."""

from __future__ import annotations

import math


class GripperGate:
    """Passes gripper positions 0 (open) ... 1 (closed) on.

    A value is sent when it differs from the last one sent by more than `deadband`, when it reaches an end of the
    range, and every `repeat_s`, so that a late subscriber and every recording know it.

    Attributes:
        wanted: last accepted position, None before the first. It is held through faults: letting go of an object is
            not a safe state.
    """

    def __init__(self, deadband: float = 0.02, repeat_s: float = 0.1) -> None:
        self._deadband = deadband
        self._repeat_ns = int(repeat_s * 1e9)
        self.wanted: float | None = None
        self._sent: float | None = None
        self._sent_ns = 0

    def accept(self, value: float) -> str:
        """Take a position; returns what is wrong with it, or an empty string."""
        if not math.isfinite(value):
            return "gripper is not finite"
        # Regressed positions overshoot a little; more than that is another unit (mm, degrees, widths).
        if not -0.1 <= value <= 1.1:
            return f"gripper {value:.3g} outside 0 ... 1"
        self.wanted = min(max(value, 0.0), 1.0)
        return ""

    def due(self, now_ns: int) -> float | None:
        """The position to send now, or None.

        Args:
            now_ns: monotonic clock.
        """
        if self.wanted is None:
            return None
        if self._sent is not None and now_ns - self._sent_ns < self._repeat_ns and not self._changed(self.wanted):
            return None
        self._sent, self._sent_ns = self.wanted, now_ns
        return self.wanted

    def _changed(self, value: float) -> bool:
        at_an_end = value in (0.0, 1.0) and value != self._sent
        return at_an_end or self._sent is None or abs(value - self._sent) > self._deadband
