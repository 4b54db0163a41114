"""What a source of motion needs to know about the guard: whether it is alive, armed, and listening to this source."""

from __future__ import annotations

import json
import time
from typing import Any

from rclpy.node import Node
from std_msgs.msg import String

from robosteer_policy.nodes.qos import LATCHED

# The guard speaks every second and at every change.
MAX_SILENCE_S = 3.0


class GuardListener:
    """Follows `/robosteer/guard/status`.

    Args:
        node: that listens.
        source: as which it wants to be heard.
    """

    def __init__(self, node: Node, source: str) -> None:
        self._source = source
        self._status: dict[str, Any] | None = None
        self._heard_s = 0.0
        self._subscription = node.create_subscription(String, "/robosteer/guard/status", self._hear, LATCHED)

    def _hear(self, message: String) -> None:
        try:
            status = json.loads(message.data)
        except ValueError:
            return
        if isinstance(status, dict) and str(status.get("schema", "")).startswith("robosteer.guard/"):
            self._status, self._heard_s = status, time.monotonic()

    def trouble(self) -> str:
        """Why commands would not be obeyed, or an empty string."""
        if self._status is None:
            return "guard: heard nothing yet; start it"
        if time.monotonic() - self._heard_s > MAX_SILENCE_S:
            return f"guard: silent for {time.monotonic() - self._heard_s:.0f} s; is it still running?"
        state, source = self._status.get("state"), self._status.get("source")
        if state != "armed":
            return f"guard: {state} ({self._status.get('reason')}); call /guard/arm"
        if source != self._source or self._status.get("pending_source"):
            return f"guard: obeys {source}; set its parameter source to {self._source}"
        return ""
