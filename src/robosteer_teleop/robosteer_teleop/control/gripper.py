"""From the trigger to the gripper's command."""

from __future__ import annotations

import numpy as np

TRIGGER_GAIN = 1.5
"""As DROID: two thirds of the trigger's way close the gripper fully."""
CLOSE_ABOVE, OPEN_BELOW = 0.6, 0.4
DEBOUNCE_S = 0.150


def streamed(trigger: float) -> float:
    """Command of a gripper that follows positions (Robotiq): 0 open ... 1 closed."""
    return float(np.clip(TRIGGER_GAIN * trigger, 0.0, 1.0))


class Binary:
    """Command of a gripper that knows two actions only (Franka Hand): hysteresis, and no two changes in a hurry.

    Attributes:
        closed: the present command.
    """

    def __init__(self) -> None:
        """Start open."""
        self.closed = False
        self._changed_s = -np.inf

    def update(self, trigger: float, now_s: float) -> float:
        """Take the trigger (0 ... 1) at a moment (s) and return the command, 0.0 or 1.0."""
        wanted = trigger > CLOSE_ABOVE if not self.closed else trigger >= OPEN_BELOW
        if wanted is not self.closed and now_s - self._changed_s >= DEBOUNCE_S:
            self.closed, self._changed_s = wanted, now_s
        return float(self.closed)
