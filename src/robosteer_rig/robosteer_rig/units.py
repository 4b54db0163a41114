"""Units and conversions. Inside RoboSteer everything is SI; normalised quantities say so in their name."""

from __future__ import annotations

import numpy as np

NS_PER_S = 1_000_000_000


def seconds_to_ns(seconds: float) -> int:
    """Seconds -> whole nanoseconds, rounded."""
    return round(seconds * NS_PER_S)


def ns_to_seconds(nanoseconds: int) -> float:
    """Nanoseconds -> seconds."""
    return nanoseconds / NS_PER_S


def stamp_ns(sec: int, nanosec: int) -> int:
    """builtin_interfaces/Time -> nanoseconds."""
    return int(sec) * NS_PER_S + int(nanosec)


def grid_stamp(start_ns: int, step: int, rate_hz: float) -> int:
    """Time of step `step` of a grid that starts at `start_ns`, in ns; rounded per step, so that it never drifts."""
    return start_ns + round(step * NS_PER_S / rate_hz)


def normalise_velocity(joint_velocity: np.ndarray, unit_rad_per_s: float) -> np.ndarray:
    """Joint velocity in rad/s -> u = velocity / unit; not clipped."""
    return np.asarray(joint_velocity) / unit_rad_per_s


def denormalise_velocity(normalised: np.ndarray, unit_rad_per_s: float) -> np.ndarray:
    """U -> joint velocity in rad/s."""
    return np.asarray(normalised) * unit_rad_per_s
