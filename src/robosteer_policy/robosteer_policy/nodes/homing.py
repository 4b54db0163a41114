"""The homing node: brings the arm to its home pose through the guard, when the guard's source is `homing`."""

from __future__ import annotations

import array

import numpy as np
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from robosteer_policy.guard.homing import HOME, homing_velocity, require_speed
from robosteer_policy.guard.streams import by_name
from robosteer_policy.nodes.guard_listener import GuardListener
from robosteer_policy.nodes.parameters import Parameter, declare
from robosteer_policy.nodes.qos import RELIABLE
from robosteer_rig.errors import RobosteerError
from robosteer_rig.nodes.running import StoppableNode, run_node
from robosteer_rig.parameters import required_rig
from robosteer_rig.rig import load_rig

RATE_HZ = 100.0
PARAMETERS = (
    Parameter("rig", "", "path of the rig file"),
    Parameter("home", list(HOME), "joint positions in the rig's order, rad"),
    Parameter("speed", 0.3, "of the fastest joint, rad/s"),
)


class HomingNode(StoppableNode):
    """Moves on request and falls silent when it has arrived."""

    def __init__(self) -> None:
        super().__init__("homing")
        values = declare(self, PARAMETERS)
        self._arm = load_rig(required_rig(values["rig"])).arm
        self._home, self._speed = np.array(values["home"], dtype=np.float64), require_speed(values["speed"])
        inside = self._home.shape == (len(self._arm.joints),) and bool(
            ((self._home >= self._arm.position_min) & (self._home <= self._arm.position_max)).all()
        )
        if not inside:
            raise RobosteerError(f"home: found {values['home']}, expected one position inside the limits per joint")
        self._position: np.ndarray | None = None
        self._guard = GuardListener(self, "homing")
        self._moving = False
        self._command = self.create_publisher(JointState, "/robosteer/homing/command", RELIABLE)
        self._states = self.create_subscription(JointState, self._arm.state_topic, self._on_joint_state, RELIABLE)
        self.create_service(Trigger, "~/go", self._on_go)
        self.create_service(Trigger, "~/stop", self._on_stop)
        self._timer = self.create_timer(1 / RATE_HZ, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_joint_state(self, message: JointState) -> None:
        position = by_name(list(message.name), message.position, self._arm.joints, exact=False)
        if not isinstance(position, str):
            self._position = position

    def _tick(self) -> None:
        if not self._moving or self._position is None:
            return
        velocity = None if self._guard.trouble() else homing_velocity(self._position, self._home, self._speed)
        self._moving = velocity is not None
        self._say(np.zeros(len(self._home)) if velocity is None else velocity)

    def _say(self, velocity: np.ndarray) -> None:
        message = JointState(name=list(self._arm.joints), velocity=array.array("d", velocity.tobytes()))
        message.header.stamp = self.get_clock().now().to_msg()
        self._command.publish(message)

    def _on_go(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        silent = f"{self._arm.state_topic}: nothing heard yet" if self._position is None else ""
        trouble = self._guard.trouble() or silent
        self._moving = response.success = not trouble
        response.message = trouble or "on the way"
        return response

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.finish()
        response.success, response.message = True, "stopped"
        return response

    def finish(self) -> None:
        """Command rest, so that the guard need not find out by silence."""
        if self._moving:
            self._moving = False
            self._say(np.zeros(len(self._home)))


def main() -> int:
    """Entry point of `ros2 run robosteer_policy homing`."""
    return run_node(HomingNode)
