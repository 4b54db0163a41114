"""How the guard's decision reaches the arm: as joint velocities, or as targets of an impedance controller."""

from __future__ import annotations

import array
from typing import Protocol

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from robosteer_policy.guard.impedance import ImpedanceTarget
from robosteer_policy.guard.limits import Limits
from robosteer_policy.nodes.qos import RELIABLE
from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import Rig

MODES = ("joint_velocity", "joint_impedance")


class Output(Protocol):
    """The one publisher of the arm's commands."""

    topic: str

    def send(self, velocity: np.ndarray, position: np.ndarray | None) -> None:
        """Publish one period's decision: (n,) rad/s at the measured position (n,) rad, None before the first."""
        ...


class VelocityOutput:
    """Joint velocities for a velocity controller, in the rig's order; zeros are repeated."""

    def __init__(self, node: Node, rig: Rig) -> None:
        self.topic = rig.arm.command_topic
        self._publisher = node.create_publisher(Float64MultiArray, self.topic, RELIABLE)

    def send(self, velocity: np.ndarray, position: np.ndarray | None) -> None:
        """See `Output`."""
        del position
        self._publisher.publish(Float64MultiArray(data=array.array("d", velocity.tobytes())))


class ImpedanceOutput:
    """Joint targets, in the rig's order and with its names (crisp_controllers reads them by index)."""

    def __init__(self, node: Node, rig: Rig, limits: Limits, topic: str) -> None:
        self.topic = topic
        self._joints = list(rig.arm.joints)
        self._target = ImpedanceTarget(limits, 1.0 / rig.action.rate_hz)
        self._node = node
        self._publisher = node.create_publisher(JointState, topic, RELIABLE)

    def send(self, velocity: np.ndarray, position: np.ndarray | None) -> None:
        """See `Output`. Without a measured position nothing is said: the controller holds what it has."""
        if position is None:
            return
        target = self._target.step(velocity, position)
        message = JointState(name=self._joints, position=array.array("d", target.tobytes()))
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)


def make_output(node: Node, rig: Rig, limits: Limits, mode: str, target_topic: str) -> Output:
    """The output of a mode.

    Raises:
        RobosteerError: for an unknown mode.
    """
    if mode == "joint_velocity":
        return VelocityOutput(node, rig)
    if mode == "joint_impedance":
        return ImpedanceOutput(node, rig, limits, target_topic)
    raise RobosteerError(f"mode: found {mode!r}, expected one of {', '.join(MODES)}")
