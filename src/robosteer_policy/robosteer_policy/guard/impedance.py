"""The output for an impedance controller: where the arm shall be drawn to, instead of how fast it shall move."""

from __future__ import annotations

import numpy as np

from robosteer_policy.guard.limits import Limits


class ImpedanceTarget:
    """Joint targets as DROID's controller makes them: measured position + lead * velocity.

    At rest the last target stays, so that the arm neither sags nor follows a push for ever. When motion begins while
    the arm hangs away from its target, the target slides to its new place instead of jumping.

    Args:
        limits: targets stay inside the position limits less their margin.
        lead_s: one step of the action, so that u = 1 asks for `unit_rad_per_s` * `lead_s` (0.2 rad for DROID).
        slide_rad_per_s: how fast a target may move beyond what the velocity asks for.
    """

    def __init__(self, limits: Limits, lead_s: float, slide_rad_per_s: float = 1.0) -> None:
        self._limits = limits
        self._lead_s = lead_s
        self._slide = slide_rad_per_s * limits.period_s
        self._target: np.ndarray | None = None

    def step(self, velocity: np.ndarray, position: np.ndarray) -> np.ndarray:
        """The target of this control period, (n,) rad.

        Args:
            velocity: (n,) rad/s from the limiter.
            position: (n,) rad, measured.
        """
        if self._target is None:
            self._target = position.copy()
        if not velocity.any():
            return self._target.copy()
        limits = self._limits
        reach = self._slide + np.abs(velocity) * limits.period_s
        wanted = np.clip(position + velocity * self._lead_s, self._target - reach, self._target + reach)
        low, high = limits.position_min + limits.margin_rad, limits.position_max - limits.margin_rad
        self._target = np.clip(wanted, np.minimum(low, position), np.maximum(high, position))
        return self._target.copy()

    def forget(self) -> None:
        """Begin at the measured position again, as after the controller was restarted."""
        self._target = None
