"""What an episode tells about how it was steered: taken from the topics of the teleop node while recording.

The node's latched session message (alignment, scales, limits, controller parameters read back, clocks) goes into
episode.json as it stands; its status messages are counted.
"""

from __future__ import annotations

import struct
from typing import Any

from robosteer_rig.messages import json_object

SESSION_TOPIC = "/robosteer/teleop/session"
STATUS_TOPIC = "/robosteer/teleop/status"
STATUS_SCHEMA = "robosteer.teleop/1"


def text_of(data: bytes) -> str:
    """The text of a serialized std_msgs/String (CDR, either byte order)."""
    order = "<" if data[1] == 1 else ">"
    (size,) = struct.unpack_from(f"{order}I", data, 4)
    return data[8 : 8 + max(size - 1, 0)].decode(errors="replace")


def _json_of(data: bytes) -> dict[str, Any]:
    """A message's JSON object; empty for anything else, which is another node's mistake and no reason to stop."""
    try:
        return json_object(text_of(data)) or {}
    except (struct.error, IndexError):
        return {}


class TeleopRecord:
    """Counts the status messages of one episode."""

    def __init__(self) -> None:
        """Start with nothing known."""
        self._session: dict[str, Any] = {}
        self.begin()

    def begin(self) -> None:
        """Start an episode."""
        self._ticks = self._engaged = 0
        self._limiters: dict[str, int] = {}
        self._age_max_s = 0.0
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def receive(self, topic: str, data: bytes) -> None:
        """Take a serialized message of one of the two topics."""
        if topic == SESSION_TOPIC:
            self._session = _json_of(data)
        elif topic == STATUS_TOPIC:
            self._count(_json_of(data))

    def _count(self, status: dict[str, Any]) -> None:
        if status.get("schema") != STATUS_SCHEMA:
            return
        self._ticks += 1
        self._engaged += bool(status.get("engaged"))
        for name in status.get("limiters", ()):
            self._limiters[name] = self._limiters.get(name, 0) + 1
        self._age_max_s = max(self._age_max_s, float(status.get("pose_age_s") or 0.0))
        counters = {name: float(value) for name, value in status.get("counters", {}).items()}
        self._first = self._first or counters
        self._last = counters

    def content(self) -> dict[str, Any]:
        """The field `teleop` of episode.json; empty where nobody teleoperated."""
        if not self._session and not self._ticks:
            return {}
        share = 1.0 / max(self._ticks, 1)
        return {
            "session": self._session,
            "status_messages": self._ticks,
            "engaged_share": round(self._engaged * share, 4),
            "limiter_share": {name: round(count * share, 4) for name, count in sorted(self._limiters.items())},
            "pose_age_max_s": round(self._age_max_s, 4),
            "counted": {name: value - self._first.get(name, 0.0) for name, value in self._last.items()},
        }
