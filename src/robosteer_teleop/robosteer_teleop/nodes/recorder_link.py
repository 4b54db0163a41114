"""The teleop node's line to the recorder: its state, and its services as commands that nobody waits for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from rclpy.client import Client
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String
from std_srvs.srv import Trigger

from robosteer_rig.messages import json_object
from robosteer_teleop.episodes import Command, State
from robosteer_teleop.hud import recorder_state

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class RecorderLink:
    """Sends commands to the recorder.

    Attributes:
        status: its newest state; empty before the first.
    """

    def __init__(self, node: Node, refused: Callable[[str], None]) -> None:
        """Subscribe.

        Args:
            node: spins.
            refused: told the reason when a command is refused.
        """
        self.status: dict[str, Any] = {}
        self._refused = refused
        self._clients: dict[Command, Client] = {
            command: node.create_client(Trigger, f"/recorder/{command.value}") for command in Command
        }
        node.create_subscription(String, "/robosteer/recorder/state", self._receive, LATCHED)

    @property
    def state(self) -> State:
        """The recorder's state; idle while it has said nothing."""
        return recorder_state(self.status)

    def _receive(self, message: String) -> None:
        self.status = json_object(message.data) or self.status

    def send(self, command: Command) -> None:
        """Call the command's service; a refusal comes back as a line."""
        client = self._clients[command]
        if not client.service_is_ready():
            self._refused(f"{command}: found no recorder, expected one; start it")
            return
        client.call_async(Trigger.Request()).add_done_callback(self._answered)

    def _answered(self, future: Any) -> None:
        answer = future.result()
        if not answer.success:
            self._refused(str(json.loads(answer.message)["reason"]))
