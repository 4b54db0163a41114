"""What the recorder answers to a command, and the two clocks that it is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from robosteer_teleop.episodes import State

STATE_SCHEMA = "robosteer.recorder/1"


@dataclasses.dataclass(frozen=True)
class Now:
    """One moment on both clocks.

    Attributes:
        wall_ns: for stamps, ns.
        monotonic_s: for durations, s.
    """

    wall_ns: int
    monotonic_s: float


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a command did.

    Attributes:
        accepted: whether it did anything.
        state: afterwards.
        episode: the episode it was about, None without one.
        path: where that episode is now.
        reason: why it was refused, or what the operator should know.
    """

    accepted: bool
    state: State
    episode: int | None = None
    path: Path | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data for the service's message."""
        return {
            "schema": STATE_SCHEMA,
            "state": self.state.value,
            "episode": self.episode,
            "path": str(self.path) if self.path is not None else None,
            "reason": self.reason,
        }
