"""Bag every run of the policy: starts and keeps the recorder's episodes when the policy begins and ends to act."""

from __future__ import annotations

from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from std_msgs.msg import String
from std_srvs.srv import Trigger

from robosteer_policy.nodes.parameters import Parameter, declare
from robosteer_policy.nodes.qos import LATCHED
from robosteer_rig.messages import json_object
from robosteer_rig.nodes.running import StoppableNode, run_node

PARAMETERS = (Parameter("recorder", "/recorder", "name of the recorder node"),)
# After the end of a run, so that the guard's last decisions are in the bag, s.
AFTERMATH_S = 0.5


class RunRecorder(StoppableNode):
    """Follows guard and policy and calls the recorder's services; it records nothing itself.

    The bag begins when the guard is armed for the policy, so that it holds what the first inference sees; it is kept
    when the run ends, and thrown away when the guard is disarmed without one.
    """

    def __init__(self) -> None:
        super().__init__("run_recorder")
        recorder: str = declare(self, PARAMETERS)["recorder"]
        names = ("start", "stop", "keep", "discard")
        self._recorder = {name: self.create_client(Trigger, f"{recorder}/{name}") for name in names}
        self._running = self._armed = self._recording = False
        self._timer: Any = None
        self._heard = [
            self.create_subscription(String, "/robosteer/policy/state", self._on_policy, LATCHED),
            self.create_subscription(String, "/robosteer/guard/status", self._on_guard, LATCHED),
        ]

    def _on_guard(self, message: String) -> None:
        status = _parse(message.data)
        armed = status.get("state") == "armed" and status.get("source") == "policy"
        if armed and not self._armed:
            self._begin()
        elif self._armed and not armed and not self._running and self._timer is None and self._recording:
            self._recording = False
            self._call("stop", then="discard")
        self._armed = armed

    def _on_policy(self, message: String) -> None:
        running = _parse(message.data).get("state") == "running"
        if running and not self._running:
            self._begin()
        elif self._running and not running:
            self._timer = self.create_timer(AFTERMATH_S, self._end, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._running = running

    def _begin(self) -> None:
        self._cancel()
        if not self._recording:
            self._recording = True
            self._call("start")

    def _end(self) -> None:
        self._cancel()
        self._recording = False
        self._call("stop", then="keep")

    def _cancel(self) -> None:
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None

    def _call(self, name: str, then: str = "") -> None:
        def answered(future: Any) -> None:
            response = future.result()
            if response is None or not response.success:
                said = "no answer" if response is None else response.message
                self.get_logger().error(f"recorder {name}: {said}; this run is not in a bag")
            elif then:
                self._call(then)

        if not self._recorder[name].service_is_ready():
            self.get_logger().error(f"recorder {name}: no such service; this run is not in a bag")
            return
        self._recorder[name].call_async(Trigger.Request()).add_done_callback(answered)


def _parse(text: str) -> dict[str, Any]:
    return json_object(text) or {}


def main() -> int:
    """Entry point of `ros2 run robosteer_policy run_recorder`."""
    return run_node(RunRecorder)
