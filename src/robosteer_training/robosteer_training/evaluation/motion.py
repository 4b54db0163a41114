"""How a policy moved, apart from whether it succeeded: smoothness and limits."""

from __future__ import annotations

import dataclasses

import numpy as np

from robosteer_rig.frame import Frame
from robosteer_rig.rig import Rig

POSITION_MARGIN_RAD = 0.05
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class Motion:
    """Measured over one trial.

    Attributes:
        steps: control steps.
        rms_acceleration: rad/s², root mean square over steps and joints of the change of the commanded joint velocity
            from one step to the next, times the rate; low is smooth.
        peak_velocity: largest commanded |joint velocity|, rad/s.
        clipped_steps: steps in which a normalised joint velocity left [-1, 1] and was clipped.
        overspeed_steps: steps whose command exceeded a joint's limit in the rig.
        near_limit_steps: steps in which a measured joint was within `POSITION_MARGIN_RAD` of a limit in the rig.
    """

    steps: int
    rms_acceleration: float
    peak_velocity: float
    clipped_steps: int
    overspeed_steps: int
    near_limit_steps: int


class MotionMeter:
    """Takes note of every step."""

    def __init__(self, rig: Rig) -> None:
        self._rate_hz = rig.action.rate_hz
        self._velocity_max = np.asarray(rig.arm.velocity_max)
        self._low = np.asarray(rig.arm.position_min) + POSITION_MARGIN_RAD
        self._high = np.asarray(rig.arm.position_max) - POSITION_MARGIN_RAD
        self._commands: list[np.ndarray] = []
        self._clipped = self._overspeed = self._near = 0

    def note(self, action: np.ndarray, velocity: np.ndarray, frame: Frame) -> None:
        """One step.

        Args:
            action: (8,) as the policy gave it.
            velocity: (7,) rad/s, as commanded.
            frame: in which the policy acted.
        """
        self._clipped += bool(np.abs(action[:7]).max() > 1 + _ROUNDING)
        self._overspeed += bool((np.abs(velocity) > self._velocity_max + _ROUNDING).any())
        position = frame.joint_position
        self._near += bool(((position < self._low) | (position > self._high)).any())
        self._commands.append(velocity)

    def result(self) -> Motion:
        """Of all steps so far."""
        commands = np.stack(self._commands)
        change = np.diff(commands, axis=0) * self._rate_hz
        return Motion(
            steps=len(commands),
            rms_acceleration=float(np.sqrt(np.mean(change**2))) if len(change) else 0.0,
            peak_velocity=float(np.abs(commands).max()),
            clipped_steps=self._clipped,
            overspeed_steps=self._overspeed,
            near_limit_steps=self._near,
        )
