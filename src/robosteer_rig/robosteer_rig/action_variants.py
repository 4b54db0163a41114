"""Other ways to derive actions than from the commanded velocities: measured, from targets, by DROID's own controller.

All give u, normalised joint velocities (n, 7), for the intervals [t_k, t_k+1) between consecutive frames.
"""

from __future__ import annotations

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_rig.kinematics import damped_least_squares, forward_kinematics
from robosteer_rig.units import NS_PER_S

# DROID's teleoperation law, per control step: share of the pose error that is driven away, and what u = 1 moves.
DROID_POSITION_GAIN = 5.0
DROID_ROTATION_GAIN = 2.0
DROID_STEP_M = 0.075
DROID_STEP_RAD = 0.15


def measured_actions(measured: np.ndarray, edges_ns: np.ndarray, unit_rad_per_s: float) -> np.ndarray:
    """Displacement of the measured joints over each interval.

    What the arm did, without the lead that made a compliant controller do it: on such a controller a policy trained on
    these under-moves.

    Args:
        measured: (n + 1, 7) rad at the edges.
        edges_ns: (n + 1,).
        unit_rad_per_s: joint velocity of u = 1.

    Returns:
        (n, 7).
    """
    return np.diff(measured, axis=0) / _durations_s(edges_ns) / unit_rad_per_s


def target_actions(
    targets: np.ndarray, measured: np.ndarray, edges_ns: np.ndarray, unit_rad_per_s: float
) -> np.ndarray:
    """Way from the measured joints to the target at the interval's end: DROID's meaning, the lead included.

    Args:
        targets: (n, 7) rad, the target in force at t_k+1.
        measured: (n, 7) rad at t_k.
        edges_ns: (n + 1,).
        unit_rad_per_s: joint velocity of u = 1.

    Returns:
        (n, 7), every row scaled as a whole into [-1, 1], as DROID's controller does.
    """
    return _scaled((targets - measured) / _durations_s(edges_ns) / unit_rad_per_s)


def controller_actions(
    targets: np.ndarray,
    measured: np.ndarray,
    edges_ns: np.ndarray,
    unit_rad_per_s: float,
    *,
    tool: np.ndarray,
) -> np.ndarray:
    """Re-run DROID's proportional law on the recorded targets.

    Per step: the tool's position and rotation errors times gains 5 and 2, each shortened to norm 1, times 0.075 m and
    0.15 rad, through the inverse kinematics at the measured joints.

    Args:
        targets: (n, 7) rad, the target in force at t_k+1.
        measured: (n, 7) rad at t_k.
        edges_ns: (n + 1,).
        unit_rad_per_s: joint velocity of u = 1.
        tool: (4, 4) pose of the tool in the flange frame.

    Returns:
        (n, 7), every row scaled as a whole into [-1, 1].
    """
    wanted, actual = forward_kinematics(targets, tool), forward_kinematics(measured, tool)
    steps = np.empty((len(measured), 7))
    for k, q in enumerate(measured):
        away = wanted[k, :3, 3] - actual[k, :3, 3]
        turn = rotation_vector(wanted[k, :3, :3] @ actual[k, :3, :3].T)
        twist = np.concatenate(
            [
                _shortened(DROID_POSITION_GAIN * away) * DROID_STEP_M,
                _shortened(DROID_ROTATION_GAIN * turn) * DROID_STEP_RAD,
            ]
        )
        steps[k] = damped_least_squares(q, twist, tool=tool)
    return _scaled(steps / _durations_s(edges_ns) / unit_rad_per_s)


def values_at(stamps_ns: np.ndarray, values: np.ndarray, times_ns: np.ndarray, default: np.ndarray) -> np.ndarray:
    """The last row stamped strictly before each time.

    Args:
        stamps_ns: (n,) strictly increasing.
        values: (n, d).
        times_ns: (m,).
        default: (m, d) taken where nothing is stamped before the time.

    Returns:
        (m, d).
    """
    if not len(stamps_ns):
        return np.array(default, dtype=np.float64)
    index = np.searchsorted(stamps_ns, times_ns, side="left") - 1
    return np.where((index >= 0)[:, None], values[np.maximum(index, 0)], default)


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Axis times angle, (3,) rad, of a (3, 3) rotation matrix; angles up to pi."""
    antisymmetric = np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    sine, cosine = np.linalg.norm(antisymmetric) / 2, (np.trace(rotation) - 1) / 2
    angle = np.arctan2(sine, cosine)
    if sine > 1e-9:
        return antisymmetric / (2 * sine) * angle
    if cosine > 0:
        return antisymmetric / 2
    # A half turn: the axis is the column space of (R + I) / 2.
    axis = (rotation + np.eye(3))[:, np.argmax(np.diag(rotation))]
    return axis / np.linalg.norm(axis) * np.pi


def _durations_s(edges_ns: np.ndarray) -> np.ndarray:
    durations = np.diff(np.asarray(edges_ns, dtype=np.int64)) / NS_PER_S
    if not len(durations) or (durations <= 0).any():
        raise RobosteerError("edges: found ones that do not increase, expected t_0 < t_1 < ...")
    return durations[:, None]


def _shortened(vector: np.ndarray) -> np.ndarray:
    return vector / max(1.0, float(np.linalg.norm(vector)))


def _scaled(u: np.ndarray) -> np.ndarray:
    return u / np.maximum(1.0, np.abs(u).max(axis=1, initial=0.0))[:, None]
