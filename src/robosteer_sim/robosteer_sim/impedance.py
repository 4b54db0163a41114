"""A Cartesian impedance controller like crisp_controllers' (2.x): a spring and damper between the tool and a target.

tau = J^T (K e - D J dq) + N^T (kq (q0 - q) - dq_gain dq), with the error clipped, N the projector onto the arm's free
direction, and the change of torque per step bounded. It knows no time-out: the last target holds.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from robosteer_rig.kinematics import forward_kinematics, jacobian


@dataclasses.dataclass(frozen=True)
class ImpedanceSettings:
    """Gains.

    Attributes:
        k_pos: N/m.
        k_rot: N m/rad.
        d_pos: N s/m.
        d_rot: N m s/rad.
        clip_m: largest position error that pulls, m.
        clip_rad: largest attitude error, rad.
        k_null: N m/rad towards the posture.
        d_null: N m s/rad.
        max_delta_tau: N m per millisecond.
        smoothing: share of the old target kept per millisecond.
    """

    k_pos: float = 600.0
    k_rot: float = 30.0
    d_pos: float = 60.0
    d_rot: float = 10.0
    clip_m: float = 0.1
    clip_rad: float = 0.5
    k_null: float = 5.0
    d_null: float = 2.0
    max_delta_tau: float = 0.5
    smoothing: float = 0.1

    def as_parameters(self) -> dict[str, float]:
        """The same under the controller's own names, which a client reads back."""
        axes = {f"task.k_pos_{a}": self.k_pos for a in "xyz"} | {f"task.k_rot_{a}": self.k_rot for a in "xyz"}
        damping = {f"task.d_pos_{a}": self.d_pos for a in "xyz"} | {f"task.d_rot_{a}": self.d_rot for a in "xyz"}
        clips = {f"task.error_clip.{a}": self.clip_m for a in "xyz"}
        clips |= {f"task.error_clip.r{a}": self.clip_rad for a in "xyz"}
        others = {"nullspace.stiffness": self.k_null, "nullspace.damping": self.d_null}
        filters = {"filter.target_pose": self.smoothing, "filter.q_ref": self.smoothing}
        return axes | damping | clips | others | filters | {"max_delta_tau": self.max_delta_tau}


class CartesianImpedance:
    """Torques that draw the tool to a target pose."""

    def __init__(self, settings: ImpedanceSettings, tool: np.ndarray, torque_max: np.ndarray) -> None:
        """Build a controller; `activate` it before use.

        Args:
            settings: gains.
            tool: (4, 4) pose of the tool in the flange frame.
            torque_max: (7,) N m.
        """
        self._settings, self._tool, self._torque_max = settings, tool, torque_max
        self._torque = np.zeros(7)

    def activate(self, q: np.ndarray) -> None:
        """Hold the present pose.

        Args:
            q: (7,) rad.
        """
        pose = forward_kinematics(q, self._tool)
        self._position, self._rotation = pose[:3, 3].copy(), pose[:3, :3].copy()
        self._filtered = self._position.copy(), self._rotation.copy()
        self._posture, self._torque = q.copy(), np.zeros(7)

    def aim(self, position: np.ndarray, rotation: np.ndarray) -> None:
        """Take a new target: (3,) m and (3, 3), base frame."""
        self._position, self._rotation = position, rotation

    def torque(self, q: np.ndarray, velocity: np.ndarray, period_s: float) -> np.ndarray:
        """(7,) N m for one step.

        Args:
            q: (7,) rad.
            velocity: (7,) rad/s.
            period_s: of the step, s.
        """
        s, jac = self._settings, jacobian(q, self._tool)
        error, twist = self._error(q, period_s), jac @ velocity
        wrench = np.concatenate([s.k_pos * error[:3] - s.d_pos * twist[:3], s.k_rot * error[3:] - s.d_rot * twist[3:]])
        free = np.eye(7) - jac.T @ np.linalg.solve(jac @ jac.T + 1e-6 * np.eye(6), jac)
        wanted = jac.T @ wrench + free.T @ (s.k_null * (self._posture - q) - s.d_null * velocity)
        reach = s.max_delta_tau * period_s * 1e3
        self._torque = self._torque + np.clip(wanted - self._torque, -reach, reach)
        self._torque = np.clip(self._torque, -self._torque_max, self._torque_max)
        return self._torque

    def _error(self, q: np.ndarray, period_s: float) -> np.ndarray:
        """(6,) clipped error to the filtered target: position by a moving average, attitude along the geodesic."""
        s, (position, rotation) = self._settings, self._filtered
        share = 1.0 - s.smoothing ** (period_s * 1e3)
        position = position + share * (self._position - position)
        rotation = turned(share * rotation_vector(self._rotation @ rotation.T)) @ rotation
        self._filtered = position, rotation
        pose = forward_kinematics(q, self._tool)
        return np.concatenate(
            [
                np.clip(position - pose[:3, 3], -s.clip_m, s.clip_m),
                np.clip(rotation_vector(rotation @ pose[:3, :3].T), -s.clip_rad, s.clip_rad),
            ]
        )


def turned(vector: np.ndarray) -> np.ndarray:
    """(3, 3): the turn about `vector` (3,) by its length in rad (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross


def rotation_vector(matrix: np.ndarray) -> np.ndarray:
    """(3,) rad of a rotation (3, 3) by less than half a turn."""
    axis = 0.5 * np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    sine = float(np.linalg.norm(axis))
    return axis if sine < 1e-12 else axis / sine * np.arctan2(sine, (float(np.trace(matrix)) - 1.0) / 2.0)


def rotation_of_quaternion(quaternion: np.ndarray) -> np.ndarray:
    """(3, 3) of a quaternion (x, y, z, w) of any length but 0."""
    x, y, z, w = quaternion / np.linalg.norm(quaternion)
    vector = np.array([x, y, z]) * (1.0 if w >= 0 else -1.0)
    sine = float(np.linalg.norm(vector))
    return np.eye(3) if sine < 1e-12 else turned(vector / sine * 2.0 * np.arctan2(sine, abs(w)))
