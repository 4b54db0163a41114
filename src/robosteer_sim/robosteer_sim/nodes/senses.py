"""What an operator at the simulated cell sees."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from robosteer_rig.rig import Rig
from robosteer_sim.nodes.session import JsonTopic

STALE_S = 0.2
"""A joint state older than this counts as none."""
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Senses:
    """What the operator sees: the arm, the gripper, and where the objects are.

    Attributes:
        cell: latest /cell/state; empty before the first.
        guard: latest /robosteer/guard/status.
    """

    def __init__(self, node: Node, rig: Rig) -> None:
        self._rig = rig
        self._joints: dict[str, float] = {}
        self._joints_at = -1e9
        self._gripper: float | None = None
        self.cell: dict[str, Any] = {}
        self._cell_at = 0.0
        node.create_subscription(String, "/cell/state", self._see_cell, 10)
        self.guard = JsonTopic(node, "/robosteer/guard/status", _LATCHED)
        node.create_subscription(JointState, rig.arm.state_topic, self._see_arm, 10)
        node.create_subscription(JointState, rig.gripper.state_topic, self._see_gripper, 10)

    def _see_cell(self, message: String) -> None:
        self.cell, self._cell_at = json.loads(message.data), time.monotonic()

    def _see_arm(self, message: JointState) -> None:
        self._joints = dict(zip(message.name, message.position, strict=True))
        self._joints_at = time.monotonic()

    def _see_gripper(self, message: JointState) -> None:
        states = dict(zip(message.name, message.position, strict=True))
        self._gripper = self._rig.gripper.normalise(states[self._rig.gripper.state_joint])

    @property
    def joint_position(self) -> np.ndarray | None:
        """(7,) rad in the rig's order; None while unknown or stale."""
        if self._gripper is None or time.monotonic() - self._joints_at > STALE_S:
            return None
        return np.array([self._joints[name] for name in self._rig.arm.joints])

    @property
    def gripper_position(self) -> float:
        """0 open ... 1 closed."""
        return 0.0 if self._gripper is None else self._gripper

    @property
    def time_s(self) -> float:
        """The cell's time since its reset: where the machine is busy and the cell slow, its operator is slow, too."""
        return self.cell["time_since_reset_s"] + min(time.monotonic() - self._cell_at, 0.1)

    def object_poses(self) -> dict[str, np.ndarray]:
        """Object name -> (7,) position m and quaternion w, x, y, z."""
        turns = self.cell["object_orientations"]
        return {name: np.array([*place, *turns[name]]) for name, place in self.cell["object_positions"].items()}

    def guard_fault(self) -> str | None:
        """Why the guard refuses to move the arm; None when it does not."""
        status = self.guard.value or {}
        return str(status.get("reason", "unknown")) if status.get("state") == "fault" else None
