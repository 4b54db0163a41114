"""The one-euro filter for a pose: steady at rest, prompt in motion (Casiez, Roussel, Vogel, CHI 2012)."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from robosteer_teleop.control.frames import Pose
from robosteer_teleop.control.rotations import exp, length, log


@dataclasses.dataclass(frozen=True)
class OneEuro:
    """Two numbers for each part of a pose.

    Attributes:
        min_cutoff_hz: of the position at rest; lower is steadier and slower.
        beta: Hz of cutoff per m/s of speed.
        min_cutoff_rotation_hz: of the attitude at rest.
        beta_rotation: Hz of cutoff per rad/s.
        derivative_cutoff_hz: of the speed estimate.
    """

    min_cutoff_hz: float = 3.0
    beta: float = 20.0
    min_cutoff_rotation_hz: float = 3.0
    beta_rotation: float = 1.2
    derivative_cutoff_hz: float = 5.0


def _share(cutoff_hz: float, dt: float) -> float:
    """Share of the new sample in a first-order low pass."""
    return 1.0 / (1.0 + 1.0 / (2.0 * math.pi * cutoff_hz * dt))


class PoseFilter:
    """Filters a stream of poses. One cutoff for all three axes, so that directions are not bent."""

    def __init__(self, settings: OneEuro) -> None:
        """Start empty; the first pose passes unchanged."""
        self._settings = settings
        self._pose: Pose | None = None
        self._velocity = np.zeros(3)
        self._turning = np.zeros(3)

    def reset(self) -> None:
        """Forget everything; the next pose passes unchanged."""
        self._pose = None

    def update(self, pose: Pose, dt: float) -> Pose:
        """Filter one pose.

        Args:
            pose: the raw pose.
            dt: s since the last one.

        Returns:
            The filtered pose.
        """
        if self._pose is None:
            self._pose, self._velocity, self._turning = pose, np.zeros(3), np.zeros(3)
            return pose
        dt, s = max(dt, 1e-4), self._settings
        keep = _share(s.derivative_cutoff_hz, dt)
        step = pose.position - self._pose.position
        turn = log(pose.rotation @ self._pose.rotation.T)
        self._velocity = self._velocity + keep * (step / dt - self._velocity)
        self._turning = self._turning + keep * (turn / dt - self._turning)
        move = _share(s.min_cutoff_hz + s.beta * length(self._velocity), dt)
        rotate = _share(s.min_cutoff_rotation_hz + s.beta_rotation * length(self._turning), dt)
        self._pose = Pose(self._pose.position + move * step, exp(rotate * turn) @ self._pose.rotation)
        return self._pose
