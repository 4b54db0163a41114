"""Limits of the arm as arrays: what may be commanded where. Whole vectors are scaled, single joints never clipped."""

from __future__ import annotations

import dataclasses

import numpy as np

from robosteer_rig.parts import Arm


@dataclasses.dataclass(frozen=True)
class JointLimits:
    """Limits of the seven joints; read-only (7,) arrays.

    Attributes:
        position_min: rad.
        position_max: rad.
        velocity_max: rad/s.
        acceleration_max: rad/s^2.
        jerk_max: rad/s^3.
        arm: where they come from.
    """

    position_min: np.ndarray
    position_max: np.ndarray
    velocity_max: np.ndarray
    acceleration_max: np.ndarray
    jerk_max: np.ndarray
    arm: Arm

    @classmethod
    def of(cls, arm: Arm) -> JointLimits:
        """Take the limits out of a rig's arm."""
        names = ("position_min", "position_max", "velocity_max", "acceleration_max", "jerk_max")
        arrays = {name: np.array(getattr(arm, name), dtype=np.float64) for name in names}
        for array in arrays.values():
            array.setflags(write=False)
        return cls(**arrays, arm=arm)

    def velocity_bounds(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Velocities from which the arm can still stop before its position limits.

        The bound towards a limit at distance d is min(velocity_max, sqrt(2 acceleration_max d)), and the rig's
        velocity envelope where it has one.

        Args:
            q: (7,) rad.

        Returns:
            Lower (7,) <= 0 and upper (7,) >= 0, rad/s. Beyond a limit only the way back is open.
        """
        q = np.asarray(q, dtype=np.float64)
        upper = np.sqrt(2.0 * self.acceleration_max * np.maximum(self.position_max - q, 0.0))
        lower = np.sqrt(2.0 * self.acceleration_max * np.maximum(q - self.position_min, 0.0))
        envelope = self.arm.velocity_envelope
        if envelope is not None:
            offset, gain = np.array(envelope.offset), np.array(envelope.gain)
            above = np.maximum(gain * (np.array(envelope.upper_zero) - q), 0.0)
            below = np.maximum(gain * (q - np.array(envelope.lower_zero)), 0.0)
            upper = np.minimum(upper, np.maximum(np.sqrt(above) - offset, 0.0))
            lower = np.minimum(lower, np.maximum(np.sqrt(below) - offset, 0.0))
        return -np.minimum(lower, self.velocity_max), np.minimum(upper, self.velocity_max)

    def scale_velocity(self, velocity: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, float]:
        """Slow a command down, in its direction, until every joint is within its bounds.

        Args:
            velocity: (7,) rad/s, finite.
            q: (7,) measured, rad.

        Returns:
            The scaled velocity (7,) rad/s and the factor in [0, 1].
        """
        velocity = np.asarray(velocity, dtype=np.float64)
        lower, upper = self.velocity_bounds(q)
        bound = np.where(velocity > 0, upper, -lower)
        speed = np.abs(velocity)
        ratios = np.divide(bound, speed, out=np.ones_like(speed), where=speed > bound)
        factor = float(ratios.min())
        return velocity * factor, factor

    def position_margin(self, q: np.ndarray) -> np.ndarray:
        """(7,) rad to the nearer position limit; negative beyond it."""
        q = np.asarray(q, dtype=np.float64)
        return np.minimum(q - self.position_min, self.position_max - q)
