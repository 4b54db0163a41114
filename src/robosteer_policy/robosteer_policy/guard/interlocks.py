"""Conditions outside the arm without which it may not move: a deadman switch, a watchdog, a proved rate limiter."""

from __future__ import annotations

from robosteer_policy.guard.streams import Instant


class Interlock:
    """Somebody must say that all is well, and keep saying so.

    Args:
        name: for people.
        max_age_s: how long one word counts.
    """

    def __init__(self, name: str, max_age_s: float) -> None:
        self.name = name
        self._max_age_s = max_age_s
        self._heard_ns: int | None = None
        self._problem = ""

    def hear(self, problem: str, now: Instant) -> None:
        """Take a word: what is wrong, or an empty string."""
        self._heard_ns, self._problem = now.steady_ns, problem

    def trouble(self, now: Instant, unread_s: float = 0.0) -> str:
        """Why the arm may not move, or an empty string.

        Args:
            now: present moment.
            unread_s: what was said in this time may still wait to be read.
        """
        if self._heard_ns is None:
            return f"{self.name}: heard nothing yet"
        if self._problem:
            return f"{self.name}: {self._problem}"
        silent_s = (now.steady_ns - self._heard_ns) * 1e-9 - unread_s
        return f"{self.name}: silent for {silent_s * 1e3:.0f} ms" if silent_s > self._max_age_s else ""
