"""The deadman's clutch: engaged while the grip is squeezed, and after any fault only by a new squeeze."""

from __future__ import annotations

from enum import StrEnum

ENGAGE_SQUEEZE = 0.8
RELEASE_SQUEEZE = 0.5


class ClutchEvent(StrEnum):
    """What a sample of the grip changed."""

    ENGAGED = "engaged"
    RELEASED = "released"


class Clutch:
    """Hysteresis on the grip, plus the rule that a held grip never re-engages by itself.

    Attributes:
        engaged: the hand moves the target.
        waiting_for_release: the grip must be let go before it counts again: at the start and after every fault.
    """

    def __init__(self) -> None:
        """Start open, waiting for the grip to be seen open."""
        self.engaged = False
        self.waiting_for_release = True

    def update(self, squeeze: float, *, allowed: bool) -> ClutchEvent | None:
        """Take one sample of the grip from a good frame.

        Args:
            squeeze: 0 open ... 1 squeezed.
            allowed: whether engaging is possible at all at this moment; a squeeze while it is not is lost.
        """
        if squeeze < RELEASE_SQUEEZE:
            self.waiting_for_release = False
            if self.engaged:
                self.engaged = False
                return ClutchEvent.RELEASED
        elif squeeze > ENGAGE_SQUEEZE and not self.engaged and not self.waiting_for_release:
            if not allowed:
                self.waiting_for_release = True
                return None
            self.engaged = True
            return ClutchEvent.ENGAGED
        return None

    def fault(self) -> bool:
        """Open the clutch, whatever the grip does.

        Returns:
            Whether it was engaged.
        """
        was_engaged, self.engaged = self.engaged, False
        self.waiting_for_release = True
        return was_engaged
