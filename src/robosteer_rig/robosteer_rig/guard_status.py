"""What the guard says about itself, as every source of motion reads it. Pure; time is passed in."""

from __future__ import annotations

from typing import Any

from robosteer_rig.messages import json_object

TOPIC = "/robosteer/guard/status"
SCHEMA_FAMILY = "robosteer.guard/"
# The guard speaks every second and at every change.
MAX_SILENCE_S = 3.0


class GuardStatus:
    """Follows `/robosteer/guard/status`.

    Args:
        source: as which the reader wants to be heard.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._status: dict[str, Any] | None = None
        self._heard_s = 0.0

    @property
    def state(self) -> str:
        """As last heard; empty before that."""
        return "" if self._status is None else str(self._status.get("state"))

    def hear(self, text: str, now_s: float) -> None:
        """Take a message; what is not the guard's status changes nothing.

        Args:
            text: of the message.
            now_s: monotonic clock.
        """
        status = json_object(text)
        if status is not None and str(status.get("schema", "")).startswith(SCHEMA_FAMILY):
            self._status, self._heard_s = status, now_s

    def trouble(self, now_s: float) -> str:
        """Why commands would not be obeyed, or an empty string."""
        if self._status is None:
            return "guard: heard nothing yet; start it"
        silent_s = now_s - self._heard_s
        if silent_s > MAX_SILENCE_S:
            return f"guard: silent for {silent_s:.0f} s; is it still running?"
        if self.state != "armed":
            return f"guard: {self.state} ({self._status.get('reason')}); call /guard/arm"
        source = self._status.get("source")
        if source != self._source or self._status.get("pending_source"):
            return f"guard: obeys {source}; set its parameter source to {self._source}"
        return ""
