"""A joint motion to a pose: straight in joint space, slow, and over when the arm stands there."""

from __future__ import annotations

import numpy as np

from robosteer_rig.errors import RobosteerError

# DROID's reset pose, rad.
HOME = (0.0, -np.pi / 5, 0.0, -4 * np.pi / 5, 0.0, 3 * np.pi / 5, 0.0)
ARRIVED_RAD = 0.01
MAX_SPEED = 1.0  # rad/s


def require_speed(speed: float) -> float:
    """Return a speed that homing may have, rad/s.

    Raises:
        RobosteerError: for one that leads nowhere, away from the pose, or is no slow motion.
    """
    if not 0 < speed <= MAX_SPEED:
        raise RobosteerError(f"speed: found {speed:g}, expected more than 0 and at most {MAX_SPEED:g} rad/s")
    return speed


def homing_velocity(position: np.ndarray, goal: np.ndarray, speed: float, gain: float = 2.0) -> np.ndarray | None:
    """Velocity towards a pose; the fastest joint moves at most at `speed`.

    Args:
        position: (n,) rad, measured.
        goal: (n,) rad.
        speed: rad/s.
        gain: 1/s; nearer than speed / gain the motion slows down.

    Returns:
        (n,) rad/s, or None when the arm has arrived.
    """
    error = np.asarray(goal) - np.asarray(position)
    largest = float(np.abs(error).max())
    if largest < ARRIVED_RAD:
        return None
    return gain * error * min(1.0, speed / (gain * largest))
