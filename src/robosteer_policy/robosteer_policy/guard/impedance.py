"""The output for an impedance controller: where the arm shall be drawn to, instead of how fast it shall move."""

from __future__ import annotations

import dataclasses

import numpy as np

from robosteer_policy.guard.limits import Limits


def for_impedance(limits: Limits, lead_s: float) -> Limits:
    """Limits of velocities that lead a target: the place `lead_s` ahead, which is the target, is checked, too.

    Args:
        limits: of the arm.
        lead_s: as in `ImpedanceTarget`.
    """
    return dataclasses.replace(limits, reaction_s=max(limits.reaction_s, lead_s))


class ImpedanceTarget:
    """Joint targets as DROID's controller makes them: measured position + lead * velocity.

    At rest the last target stays, so that the arm neither sags nor follows a small push. Where the arm is farther away
    than a controller lets it hang, somebody has taken it there, and holding the old target would pull it back: then the
    target begins again at the measured position. When motion begins while the arm hangs away from its target, the
    target slides to its new place instead of jumping.

    Args:
        limits: targets stay inside the position limits less their margin.
        lead_s: one step of the action, so that u = 1 asks for `unit_rad_per_s` * `lead_s` (0.2 rad for DROID).
        slide_rad_per_s: how fast a target may move beyond what the velocity asks for.
        leash_rad: how far a joint may hang away from a resting target. DROID's largest step of an action.
    """

    def __init__(self, limits: Limits, lead_s: float, slide_rad_per_s: float = 1.0, leash_rad: float = 0.2) -> None:
        self._limits, self._leash_rad = limits, leash_rad
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
            if np.abs(self._target - position).max() > self._leash_rad:
                self._target = position.copy()
            return self._target.copy()
        limits = self._limits
        reach = self._slide + np.abs(velocity) * limits.period_s
        wanted = np.clip(position + velocity * self._lead_s, self._target - reach, self._target + reach)
        low, high = limits.position_min + limits.margin_rad, limits.position_max - limits.margin_rad
        self._target = np.clip(wanted, np.minimum(low, position), np.maximum(high, position))
        return self._target.copy()
