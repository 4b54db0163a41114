"""Rotations as (3, 3) matrices, with the two maps to and from rotation vectors that every formula here uses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

IDENTITY = np.eye(3)
IDENTITY.setflags(write=False)


def matrix_from_quaternion(quaternion: Sequence[float] | np.ndarray) -> np.ndarray:
    """(3, 3) rotation of a quaternion (x, y, z, w) of any length but 0; q and -q give the same."""
    x, y, z, w = np.asarray(quaternion, dtype=np.float64) / math.sqrt(float(np.dot(quaternion, quaternion)))
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """(4,) unit quaternion (x, y, z, w), w >= 0, of a rotation.

    Every branch divides by its largest component (Shepperd 1978), so that half turns lose no digits: a gripper that
    points down is one.
    """
    m = matrix
    trace = float(m[0, 0] + m[1, 1] + m[2, 2])
    largest = int(np.argmax([m[0, 0], m[1, 1], m[2, 2], trace]))
    if largest == 3:
        q = np.array([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], 1.0 + trace])
    else:
        i, j, k = largest, (largest + 1) % 3, (largest + 2) % 3
        q = np.empty(4)
        q[i] = 1.0 + 2.0 * m[i, i] - trace
        q[j], q[k], q[3] = m[j, i] + m[i, j], m[k, i] + m[i, k], m[k, j] - m[j, k]
    q = q / math.sqrt(float(np.dot(q, q)))
    return -q if q[3] < 0 else q


def exp(vector: np.ndarray) -> np.ndarray:
    """(3, 3): the turn about `vector` (3,) by its length in rad (Rodrigues)."""
    x, y, z = (float(v) for v in vector)
    angle = math.sqrt(x * x + y * y + z * z)
    if angle < 1e-12:
        return IDENTITY + np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    half = math.sin(angle / 2) / angle
    return matrix_from_quaternion((x * half, y * half, z * half, math.cos(angle / 2)))


def log(matrix: np.ndarray) -> np.ndarray:
    """(3,) rad: the rotation vector, of length 0 ... pi, whose `exp` is `matrix`."""
    q = quaternion_from_matrix(matrix)
    sine = math.sqrt(float(q[0] * q[0] + q[1] * q[1] + q[2] * q[2]))
    if sine < 1e-12:
        return 2.0 * q[:3]
    return q[:3] * (2.0 * math.atan2(sine, float(q[3])) / sine)


def angle_between(first: np.ndarray, second: np.ndarray) -> float:
    """Angle in rad, 0 ... pi, of the turn between two rotations (3, 3)."""
    turn = log(first @ second.T)
    return math.sqrt(float(np.dot(turn, turn)))


def length(vector: np.ndarray) -> float:
    """Euclidean length; `math` is several times faster than numpy's for three numbers."""
    return math.sqrt(float(np.dot(vector, vector)))
