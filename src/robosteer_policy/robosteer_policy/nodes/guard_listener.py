"""What a source of motion needs to know about the guard: whether it is alive, armed, and listening to this source."""

from __future__ import annotations

import time

from rclpy.node import Node
from std_msgs.msg import String

from robosteer_policy.nodes.qos import LATCHED
from robosteer_rig.guard_status import TOPIC, GuardStatus


class GuardListener:
    """Follows the guard's status on a node.

    Args:
        node: that listens.
        source: as which it wants to be heard.
    """

    def __init__(self, node: Node, source: str) -> None:
        self._status = GuardStatus(source)
        self._subscription = node.create_subscription(String, TOPIC, self._hear, LATCHED)

    def _hear(self, message: String) -> None:
        self._status.hear(message.data, time.monotonic())

    def trouble(self) -> str:
        """Why commands would not be obeyed, or an empty string."""
        return self._status.trouble(time.monotonic())
