"""Where the arm is, as the driver says it. No ROS, no clock."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from robosteer_rig.messages import header_stamp, joint_sample
from robosteer_rig.parts import Arm


class ArmState:
    """The newest measured joint positions.

    With an impedance controller nothing stands between them and the target, so what is no new measurement must not
    become one: numbers that are not finite, a message that is sent again with its old stamp, and one that comes late.

    Args:
        arm: of the rig; names the joints and says how long a measurement counts.
    """

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self._position: np.ndarray | None = None
        self._stamp_ns = 0
        self._measured_s = -math.inf

    def hear(self, message: Any, now_s: float, clock_ns: int) -> None:
        """Take a sensor_msgs/JointState; other devices' joints are passed over.

        Args:
            message: the message.
            now_s: monotonic clock.
            clock_ns: the same moment on the clock of the stamps.
        """
        sample, stamp_ns = joint_sample(message, self._arm.joints), header_stamp(message)
        if sample is None or (stamp_ns and stamp_ns == self._stamp_ns):
            return
        age_s = max(clock_ns - stamp_ns, 0) * 1e-9 if stamp_ns else 0.0
        self._position, self._stamp_ns, self._measured_s = sample.position, stamp_ns, now_s - age_s

    def position(self, now_s: float) -> np.ndarray | None:
        """(7,) rad; None while it is not known, or no longer."""
        return self._position if now_s - self._measured_s <= self._arm.max_age_s else None
