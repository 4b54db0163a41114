"""What to do beside the controller when the guard falls silent in motion: brake, repeat zeros, stay stopped."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from robosteer_policy.guard.limits import Limits, braking

_STILL = 1e-9
_DEAF_NS = 1_000_000_000


class Watch(StrEnum):
    """What the watchdog is doing."""

    WATCHING = "watching"
    BRAKING = "braking"
    TRIPPED = "tripped"


class Watchdog:
    """Watches the arm's command topic, whose controller would hold the last velocity for ever.

    Args:
        limits: of the arm; braking stays inside acceleration and jerk.
        timeout_s: a moving command that is not followed by another for so long means that the guard is dead.

    Attributes:
        state: see `Watch`; tripped is latched.
        reason: why.
    """

    def __init__(self, limits: Limits, timeout_s: float) -> None:
        self._limits = limits
        self._timeout_ns = int(timeout_s * 1e9)
        self._velocity = np.zeros(limits.size)
        self._acceleration = np.zeros(limits.size)
        self._period_ns = int(limits.period_s * 1e9)
        self._heard_ns: int | None = None
        self._ticked_ns: int | None = None
        self.state = Watch.WATCHING
        self.reason = "no command yet"

    def trouble(self, now_ns: int) -> str:
        """Why it would not act, or an empty string. The guard repeats zeros at rest: it is heard all the time."""
        if self.state is not Watch.WATCHING:
            return self.reason
        deaf = self._heard_ns is None or now_ns - self._heard_ns > _DEAF_NS
        return "hears no commands of the guard" if deaf else ""

    @property
    def needed(self) -> bool:
        """Whether the controller would go on moving if both the guard and the watchdog were gone now."""
        return self.state is not Watch.TRIPPED and bool(self._velocity.any())

    @property
    def braked(self) -> bool:
        """Whether braking has come to its end: the controller may be deactivated."""
        return self.state is Watch.TRIPPED

    def hear(self, velocity: ArrayLike, now_ns: int) -> None:
        """Take a command of the guard, (n,) rad/s; one of another form counts as silence."""
        values = np.asarray(velocity, dtype=np.float64)
        if self.state is Watch.WATCHING and values.shape == self._velocity.shape and np.isfinite(values).all():
            self._velocity, self._heard_ns, self.reason = values, now_ns, "commands flow"

    def tick(self, now_ns: int) -> np.ndarray | None:
        """One period: the velocity to publish instead of the guard's, (n,) rad/s, or None."""
        gap_ns = 0 if self._ticked_ns is None else now_ns - self._ticked_ns
        self._ticked_ns = now_ns
        # What the guard said while this process was not scheduled still waits to be read: timers come first.
        if self.state is Watch.WATCHING and self._dead(now_ns - max(gap_ns - self._period_ns, 0)):
            self.state = Watch.BRAKING
            self.reason = f"the guard fell silent at {np.abs(self._velocity).max():.2f} rad/s"
        if self.state is Watch.WATCHING:
            return None
        if self.state is Watch.BRAKING:
            self._acceleration = braking(self._velocity, self._acceleration, self._limits)
            velocity = self._velocity + self._acceleration * self._limits.period_s
            self._velocity = np.where(np.abs(velocity) < _STILL, 0.0, velocity)
            if not self._velocity.any():
                self.state = Watch.TRIPPED
            return self._velocity.copy()
        # Zeros until the reset: the controller's subscription is best effort, and a controller that was not scheduled
        # for a while may have missed every one so far.
        return np.zeros_like(self._velocity)

    def reset(self) -> None:
        """A person has looked; watch again."""
        self._velocity = np.zeros(self._limits.size)
        self._acceleration = np.zeros(self._limits.size)
        self._heard_ns = None
        self.state, self.reason = Watch.WATCHING, "reset on request"

    def _dead(self, now_ns: int) -> bool:
        if self._heard_ns is None or not self._velocity.any():
            return False
        return now_ns - self._heard_ns > self._timeout_ns
