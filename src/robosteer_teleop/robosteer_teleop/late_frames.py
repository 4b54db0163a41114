"""One line when frames begin to come late and one when they come in time again, however many are late. Pure."""

from __future__ import annotations

import math

from robosteer_teleop.server import LinkEvent, LinkEventKind

QUIET_S = 2.0
"""Without a late frame for so long, lateness is over."""
_ENDS = (
    LinkEventKind.RESUMED,
    LinkEventKind.SESSION_ENDED,
    LinkEventKind.OPERATOR_DISCONNECTED,
    LinkEventKind.OPERATOR_CONNECTED,
)
"""After these nobody waits for the next frame of a silence."""


class LateFrames:
    """Counts silences and frames out of order, and says when that begins and ends.

    What they do to the clutch is not decided here.
    """

    def __init__(self) -> None:
        """Start in time."""
        self._since_s: float | None = None
        self._last_s = 0.0
        self._silent = False
        self._forget()

    def _forget(self) -> None:
        self._silences = self._disordered = 0
        self._longest_s = 0.0

    def hear(self, event: LinkEvent) -> str | None:
        """Take an event of the link.

        Returns:
            The line to print now, "" when there is none, None for an event that is not about late frames.
        """
        disordered = "out_of_order" in event.detail
        if event.kind is not LinkEventKind.STALE and not disordered:
            return self._end_of_silence(event)
        begins = self._since_s is None
        self._since_s = event.time_s if self._since_s is None else self._since_s
        self._last_s = event.time_s
        self._disordered += disordered
        if event.kind is LinkEventKind.STALE:
            self._silent = True
            self._silences += 1
            self._measure(event)
        how = "out of order" if disordered else f"none for {self._longest_s:.2f} s"
        return f"frames of the headset come late ({how}); the next line says when that is over" if begins else ""

    def _end_of_silence(self, event: LinkEvent) -> str | None:
        if event.kind in _ENDS:
            self._silent, self._last_s = False, event.time_s
        if event.kind is not LinkEventKind.RESUMED:
            return None
        self._measure(event)
        return ""

    def _measure(self, event: LinkEvent) -> None:
        gap_s = event.detail.get("gap_s", 0.0)
        self._longest_s = max(self._longest_s, gap_s if math.isfinite(gap_s) else 0.0)

    def poll(self, now_s: float) -> str:
        """The line that ends it, once; else "". Call about once a second.

        Args:
            now_s: this host's monotonic clock, s.
        """
        if self._since_s is None or self._silent or now_s - self._last_s < QUIET_S:
            return ""
        counts = f"{self._silences} silences, the longest {self._longest_s:.2f} s, {self._disordered} out of order"
        line = f"frames of the headset come in time again: {counts}, within {self._last_s - self._since_s:.1f} s"
        self._since_s = None
        self._forget()
        return line
