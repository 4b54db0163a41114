"""The watchdog node: runs on the control computer, beside a velocity controller that has no timeout of its own.

When the guard falls silent in the middle of a motion it brakes the arm inside the rig's acceleration and jerk limits,
repeats zeros, and asks the controller manager to deactivate the controller. It stays tripped until a person resets it.
"""

from __future__ import annotations

import array
import importlib
import json
import time
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger

from robosteer_policy.guard.limits import arm_limits
from robosteer_policy.guard.watchdog import Watch, Watchdog
from robosteer_policy.nodes.guard_interlocks import WATCHDOG_PERIOD_S, WATCHDOG_TOPIC
from robosteer_policy.nodes.parameters import Parameter, declare
from robosteer_policy.nodes.qos import RELIABLE
from robosteer_rig.errors import RobosteerError
from robosteer_rig.nodes.running import StoppableNode, run_node
from robosteer_rig.parameters import required_rig
from robosteer_rig.rig import load_rig

SCHEMA = "robosteer.watchdog/1"
# When it is asked to end it stays for as long as the arm moves, at most so long, s.
LONGEST_FAREWELL_S = 4.0
# Zeros are sent for so long before it ends then, s: the controller's subscription is best effort.
LAST_ZEROS_S = 0.5
PARAMETERS = (
    Parameter("rig", "", "path of the rig file"),
    Parameter("rate_hz", 100.0, "of the braking, Hz"),
    Parameter("timeout_s", 0.0, "silence of a moving guard that trips, s; 0 takes the rig's action.command_timeout_s"),
    Parameter("controller", "", "controller to deactivate after braking; empty for none"),
    Parameter("controller_manager", "/controller_manager", "its controller manager"),
)


class ControllerSwitch:
    """Asks a controller manager to deactivate one controller.

    Raises:
        RobosteerError: where controller_manager_msgs is not installed.
    """

    def __init__(self, node: StoppableNode, manager: str, controller: str) -> None:
        try:
            self._service: Any = importlib.import_module("controller_manager_msgs.srv").SwitchController
        except ImportError:
            raise RobosteerError(
                "watchdog: found no controller_manager_msgs, expected it to deactivate a controller; "
                "install ros2_control, or leave the parameter controller empty"
            ) from None
        self._controller = controller
        self._client = node.create_client(self._service, f"{manager}/switch_controller")

    def deactivate(self) -> None:
        """Send the request; nobody waits for the answer."""
        request = self._service.Request()
        request.deactivate_controllers = [self._controller]
        request.strictness = request.STRICT
        self._client.call_async(request)


class WatchdogNode(StoppableNode):
    """Wires the watchdog to the command topic and to the controller manager."""

    def __init__(self) -> None:
        super().__init__("watchdog")
        values = declare(self, PARAMETERS)
        rig = load_rig(required_rig(values["rig"]))
        limits = arm_limits(rig.arm, 1 / values["rate_hz"])
        self._watchdog = Watchdog(limits, values["timeout_s"] or rig.action.command_timeout_s)
        self._switch = None
        if values["controller"]:
            self._switch = ControllerSwitch(self, values["controller_manager"], values["controller"])
        self._hardware = rig.name
        self._shown = Watch.WATCHING
        self._period_s = limits.period_s
        self._command = self.create_publisher(Float64MultiArray, rig.arm.command_topic, RELIABLE)
        self._status = self.create_publisher(String, WATCHDOG_TOPIC, RELIABLE)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", RELIABLE)
        self._subscription = self.create_subscription(
            Float64MultiArray, rig.arm.command_topic, self._on_command, RELIABLE
        )
        self.create_service(Trigger, "~/reset", self._on_reset)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._periodic = [
            self.create_timer(limits.period_s, self._tick, clock=steady),
            self.create_timer(WATCHDOG_PERIOD_S, self._say, clock=steady),
            self.create_timer(1.0, self._report, clock=steady),
        ]

    def _on_command(self, message: Float64MultiArray) -> None:
        # What it says itself comes back here while it brakes; the watchdog listens only while it watches.
        self._watchdog.hear(message.data, time.monotonic_ns())

    def _tick(self) -> None:
        velocity = self._watchdog.tick(time.monotonic_ns())
        if velocity is not None:
            self._publish(velocity)
        if self._watchdog.state is not self._shown:
            self._shown = self._watchdog.state
            self.get_logger().warning(f"{self._shown}: {self._watchdog.reason}")
            self._say()
            if self._watchdog.braked and self._switch is not None:
                self._switch.deactivate()

    def _publish(self, velocity: np.ndarray) -> None:
        self._command.publish(Float64MultiArray(data=array.array("d", velocity.tobytes())))

    def _say(self) -> None:
        dog = self._watchdog
        trouble = dog.trouble(time.monotonic_ns())
        status = {"schema": SCHEMA, "state": dog.state, "ready": not trouble, "reason": trouble or dog.reason}
        self._status.publish(String(data=json.dumps(status)))

    def _report(self) -> None:
        dog = self._watchdog
        trouble = dog.trouble(time.monotonic_ns())
        level = DiagnosticStatus.ERROR if trouble else DiagnosticStatus.OK
        status = DiagnosticStatus(
            level=level,
            name="robosteer: watchdog",
            message=f"{dog.state}: {trouble or dog.reason}",
            hardware_id=self._hardware,
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._watchdog.reset()
        response.success, response.message = True, self._watchdog.reason
        return response

    def finish(self) -> None:
        """Stay until the arm rests: whoever ends this node may do so because the guard has just died.

        A launcher ends everything as soon as one process is gone, which is sooner than silence can be noticed.
        """
        end_s = time.monotonic() + LONGEST_FAREWELL_S
        braking = self._watchdog.needed
        while self._watchdog.needed and time.monotonic() < end_s:
            self._take_waiting()
            self._tick()
            time.sleep(self._period_s)
        for _ in range(round(LAST_ZEROS_S / self._period_s) if braking and self._watchdog.braked else 0):
            self._tick()
            time.sleep(self._period_s)

    def _take_waiting(self) -> None:
        """Read what has arrived, without the executor, which has ended."""
        with self._subscription.handle:
            while (taken := self._subscription.handle.take_message(self._subscription.msg_type, False)) is not None:
                self._on_command(taken[0])


def main() -> int:
    """Entry point of `ros2 run robosteer_policy watchdog`."""
    return run_node(WatchdogNode)
