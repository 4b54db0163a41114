"""Kinematics of the Franka arm (Panda, FR3: the same chain), in numpy and without a model file.

Modified Denavit-Hartenberg chain: joint i sits at T_{i-1} · Trans(p_i) · Rx(α_i) and turns about its own z axis.
Source: Franka's published parameters (a, d, α).
"""

from __future__ import annotations

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_rig.parts import Frames

NUM_JOINTS = 7
_QUARTER = np.pi / 2
# Offset p_i in the previous joint's frame, m, and rotation α_i about its x axis, rad.
_OFFSETS = (
    (0.0, 0.0, 0.333),
    (0.0, 0.0, 0.0),
    (0.0, -0.316, 0.0),
    (0.0825, 0.0, 0.0),
    (-0.0825, 0.384, 0.0),
    (0.0, 0.0, 0.0),
    (0.088, 0.0, 0.0),
)
_TWISTS = (0.0, -_QUARTER, _QUARTER, _QUARTER, -_QUARTER, _QUARTER, _QUARTER)
FLANGE_OFFSET_M = 0.107  # along joint 7's z axis

# Below this manipulability the inverse is damped, up to MAX_DAMPING at the singularity: joint speeds stay bounded
# where a plain pseudo-inverse exceeds the limits a thousandfold.
MIN_MANIPULABILITY = 0.04
MAX_DAMPING = 0.08


def _fixed(offset: tuple[float, float, float], twist: float) -> np.ndarray:
    c, s = round(float(np.cos(twist)), 15), round(float(np.sin(twist)), 15)
    matrix = np.eye(4)
    matrix[:3, :3] = [[1, 0, 0], [0, c, -s], [0, s, c]]
    matrix[:3, 3] = offset
    return matrix


_LINKS = np.stack([_fixed(p, a) for p, a in zip(_OFFSETS, _TWISTS, strict=True)])
_FLANGE = _fixed((0.0, 0.0, FLANGE_OFFSET_M), 0.0)
_LINKS.setflags(write=False)
_FLANGE.setflags(write=False)


def tool_transform(frames: Frames) -> np.ndarray:
    """(4, 4) pose of the rig's tcp in the flange frame."""
    c, s = np.cos(frames.tcp_yaw_rad), np.sin(frames.tcp_yaw_rad)
    matrix = np.eye(4)
    matrix[:2, :2] = [[c, -s], [s, c]]
    matrix[:3, 3] = frames.tcp_offset_m
    return matrix


def joint_frames(q: np.ndarray, tool: np.ndarray | None = None) -> np.ndarray:
    """Poses of all joints and of the end in the base frame.

    Args:
        q: (..., 7) joint positions, rad.
        tool: (4, 4) pose of the end in the flange frame; None takes the flange itself.

    Returns:
        (..., 8, 4, 4): joints 1 ... 7 (after their rotation), then the end.
    """
    q = np.asarray(q, dtype=np.float64)
    if q.shape[-1:] != (NUM_JOINTS,):
        raise RobosteerError(f"joint positions: found shape {q.shape}, expected (..., {NUM_JOINTS})")
    turns = np.zeros((*q.shape, 4, 4))
    cos, sin = np.cos(q), np.sin(q)
    turns[..., 0, 0], turns[..., 0, 1] = cos, -sin
    turns[..., 1, 0], turns[..., 1, 1] = sin, cos
    turns[..., 2, 2] = turns[..., 3, 3] = 1.0
    steps = _LINKS @ turns
    poses = [steps[..., 0, :, :]]
    for i in range(1, NUM_JOINTS):
        poses.append(poses[-1] @ steps[..., i, :, :])
    poses.append(poses[-1] @ (_FLANGE if tool is None else _FLANGE @ tool))
    return np.stack(poses, axis=-3)


def forward_kinematics(q: np.ndarray, tool: np.ndarray | None = None) -> np.ndarray:
    """Pose of the flange, or of the tool.

    Args:
        q: (..., 7) rad.
        tool: (4, 4) pose of the tool in the flange frame (`tool_transform(rig.frames)`), or None for the flange.

    Returns:
        (..., 4, 4) homogeneous pose in the base frame, m.
    """
    return joint_frames(q, tool)[..., -1, :, :]


def jacobian(q: np.ndarray, tool: np.ndarray | None = None) -> np.ndarray:
    """Geometric Jacobian of the flange, or of the tool, in the base frame.

    Args:
        q: (..., 7) rad.
        tool: as in `forward_kinematics`.

    Returns:
        (..., 6, 7): rows 0-2 linear velocity (m/s per rad/s), rows 3-5 angular velocity (rad/s per rad/s).
    """
    frames = joint_frames(q, tool)
    axes = frames[..., :NUM_JOINTS, :3, 2]
    arms = frames[..., NUM_JOINTS, None, :3, 3] - frames[..., :NUM_JOINTS, :3, 3]
    columns = np.concatenate([np.cross(axes, arms), axes], axis=-1)
    return np.swapaxes(columns, -1, -2)


def manipulability(jac: np.ndarray) -> float:
    """Yoshikawa's measure sqrt(det(J Jᵀ)) of a (6, 7) Jacobian; 0 at a singularity."""
    return float(np.sqrt(max(np.linalg.det(jac @ jac.T), 0.0)))


def damped_least_squares(
    q: np.ndarray,
    twist: np.ndarray,
    *,
    tool: np.ndarray | None = None,
    posture: np.ndarray | None = None,
    posture_gain: float = 1.0,
) -> np.ndarray:
    """Joint velocity that moves the tool with a twist, damped near singularities.

    dq = Jᵀ (J Jᵀ + λ² I)⁻¹ v, with λ² = MAX_DAMPING² (1 - w / MIN_MANIPULABILITY)² for manipulability
    w < MIN_MANIPULABILITY and 0 above.

    Args:
        q: (7,) rad.
        twist: (6,) linear m/s and angular rad/s velocity in the base frame.
        tool: as in `forward_kinematics`.
        posture: (7,) rad; the free direction of the arm is drawn towards it.
        posture_gain: 1/s.

    Returns:
        (7,) rad/s; not limited otherwise.
    """
    jac = jacobian(q, tool)
    pull = None if posture is None else posture_gain * (np.asarray(posture) - np.asarray(q))
    return resolve(jac, manipulability(jac), twist, pull)


def resolve(jac: np.ndarray, measure: float, twist: np.ndarray, pull: np.ndarray | None = None) -> np.ndarray:
    """The formula of `damped_least_squares` for a Jacobian from any model.

    Args:
        jac: (6, 7).
        measure: its manipulability.
        twist: (6,) m/s and rad/s.
        pull: (7,) rad/s; what the free direction of the arm should do.

    Returns:
        (7,) rad/s; not limited otherwise.
    """
    shortfall = max(0.0, 1.0 - measure / MIN_MANIPULABILITY)
    gram = jac @ jac.T + (MAX_DAMPING * shortfall) ** 2 * np.eye(6)
    # At an exact singularity the damping makes the matrix regular; elsewhere it already is.
    inverse = np.linalg.solve(gram, jac).T
    velocity = inverse @ np.asarray(twist, dtype=np.float64)
    if pull is not None:
        velocity = velocity + pull - inverse @ (jac @ pull)
    return velocity
