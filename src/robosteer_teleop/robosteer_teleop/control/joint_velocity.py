"""From a moving target to joint velocities: damped differential inverse kinematics with bands before the limits.

A plain pseudo-inverse asks for more than a thousand times the allowed joint speed when the arm is stretched out, and
walks through joint limits when it is pulled in. Here the inverse is damped near singularities, the speed towards a
joint limit falls to zero over a band before it, and the whole vector is scaled: the tool slows down and does not turn.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from robosteer_rig.kinematics import resolve
from robosteer_rig.limits import JointLimits
from robosteer_teleop.control.arm_model import ArmModel
from robosteer_teleop.control.frames import Pose
from robosteer_teleop.control.limiter import Motion
from robosteer_teleop.control.rotations import log

SLOW_BELOW, SLOWEST_AT = 0.05, 0.02  # manipulability
SLOWEST = 0.2
MARGIN_FLAG_RAD = 0.10


@dataclasses.dataclass(frozen=True)
class IkSettings:
    """Numbers of the inverse kinematics.

    Attributes:
        gain: 1/s; joint motion per error of the measured pose. The target's own velocity is fed forward.
        band_rad: distance before a joint limit over which the speed towards it falls to zero.
        posture: (7,) rad; the free direction is drawn towards it.
        posture_gain: 1/s.
        speed_share: share of the rig's joint speed limits that teleoperation may use.
    """

    gain: float = 8.0
    band_rad: float = 0.15
    posture: tuple[float, ...] = (0.0, -0.35, 0.0, -2.35, 0.0, 2.0, 0.7854)
    posture_gain: float = 0.5
    speed_share: float = 0.8


@dataclasses.dataclass(frozen=True)
class JointMonitor:
    """How comfortable the arm is.

    Attributes:
        manipulability: sqrt(det(J Jᵀ)).
        margin_rad: smallest distance of a joint to its limit.
        slow: factor for the target's speed limits, 1 ... 0.2.
    """

    manipulability: float
    margin_rad: float
    slow: float

    @property
    def near_limit(self) -> bool:
        """Whether the operator should be told."""
        return self.slow < 1.0 or self.margin_rad < MARGIN_FLAG_RAD


def monitor(model: ArmModel, limits: JointLimits, q: np.ndarray) -> JointMonitor:
    """Judge a configuration; `model` must have been updated to q (7,)."""
    w = model.manipulability
    share = float(np.clip((w - SLOWEST_AT) / (SLOW_BELOW - SLOWEST_AT), 0.0, 1.0))
    return JointMonitor(w, float(limits.position_margin(q).min()), SLOWEST + (1.0 - SLOWEST) * share)


class JointVelocityOutput:
    """Joint velocities that carry the tool after the target."""

    def __init__(self, model: ArmModel, limits: JointLimits, settings: IkSettings) -> None:
        """Take the arm.

        Args:
            model: shared with whoever updates it.
            limits: of the rig.
            settings: numbers.
        """
        self._model, self._limits, self._settings = model, limits, settings
        self._posture = np.array(settings.posture)

    def velocity(self, q: np.ndarray, target: Motion) -> np.ndarray:
        """(7,) rad/s for the measured configuration; the model must have been updated to it.

        Args:
            q: (7,) measured, rad.
            target: pose and velocity of the target.
        """
        settings, pose = self._settings, self._model.pose
        twist = np.concatenate([target.linear, target.angular]) + settings.gain * _error(target.pose, pose)
        pull = settings.posture_gain * (self._posture - q)
        wanted = resolve(self._model.jacobian, self._model.manipulability, twist, pull)
        return self._bounded(wanted, q)

    def _bounded(self, wanted: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Scale the whole vector until every joint is within its speed, which falls towards its limits."""
        limits, band = self._limits, self._settings.band_rad
        lower, upper = limits.velocity_bounds(q)
        top = self._settings.speed_share * limits.velocity_max
        upper = np.minimum(upper, top * np.clip((limits.position_max - q) / band, 0.0, 1.0))
        lower = np.maximum(lower, -top * np.clip((q - limits.position_min) / band, 0.0, 1.0))
        bound = np.where(wanted > 0, upper, -lower)
        speed = np.abs(wanted)
        ratios = np.divide(bound, speed, out=np.ones_like(speed), where=speed > bound)
        return wanted * float(ratios.min())


def _error(target: Pose, found: Pose) -> np.ndarray:
    """(6,): position error in m and rotation vector in rad from `found` to `target`, base frame."""
    return np.concatenate([target.position - found.position, log(target.rotation @ found.rotation.T)])
