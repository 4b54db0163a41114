"""The gripper adapter: the guard's gripper topic -> a Robotiq or Franka gripper's action, where those are installed.

The simulated cell and drivers with a topic of their own do not need it.
"""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Callable
from typing import Any

from rclpy.action.client import ActionClient
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from std_msgs.msg import Float64

from robosteer_policy.guard.grip import GripDecision, GripRules
from robosteer_policy.nodes.parameters import Parameter, declare
from robosteer_policy.nodes.qos import RELIABLE
from robosteer_rig.errors import RobosteerError
from robosteer_rig.nodes.running import StoppableNode, run_node
from robosteer_rig.parameters import required_rig
from robosteer_rig.rig import load_rig

RULES = GripRules()
POLL_S = 0.02
PARAMETERS = (
    Parameter("rig", "", "path of the rig file"),
    Parameter("kind", "parallel_gripper", "action: parallel_gripper (Jazzy and later), gripper_command, franka_hand"),
    Parameter("action", "/robotiq_gripper_controller/gripper_cmd", "name of the action"),
    Parameter("max_effort", 50.0, "N"),
    Parameter("binary", RULES.binary, "only fully open and fully closed"),
    Parameter("close_above", RULES.close_above, "position above which it closes, 0 open ... 1 closed"),
    Parameter("open_below", RULES.open_below, "position below which it opens"),
    Parameter("debounce_s", RULES.debounce_s, "a wish must last so long, s"),
    Parameter("min_interval_s", RULES.min_interval_s, "between two goals, s"),
)


def _load(kind: str) -> Any:
    """The action's type; imported here because it comes with the gripper's driver, not with ROS's core."""
    name = "ParallelGripperCommand" if kind == "parallel_gripper" else "GripperCommand"
    try:
        return getattr(importlib.import_module("control_msgs.action"), name)
    except (ImportError, AttributeError):
        raise RobosteerError(
            f"gripper: found no control_msgs/action/{name}, expected it for kind {kind}; install control_msgs"
        ) from None


def parallel_goal(action: Any, joint: str, position: float, effort: float) -> Any:
    """Goal of control_msgs/ParallelGripperCommand: a JointState."""
    goal = action.Goal()
    goal.command.name, goal.command.position, goal.command.effort = [joint], [position], [effort]
    return goal


def command_goal(action: Any, joint: str, position: float, effort: float) -> Any:
    """Goal of control_msgs/GripperCommand. Franka's hand takes half the opening as position, as its joints say it."""
    del joint
    goal = action.Goal()
    goal.command.position, goal.command.max_effort = position, effort
    return goal


KINDS: dict[str, Callable[[Any, str, float, float], Any]] = {
    "parallel_gripper": parallel_goal,
    "gripper_command": command_goal,
    "franka_hand": command_goal,
}


class GripperNode(StoppableNode):
    """Hears positions, decides rarely, sends goals and waits for nothing."""

    def __init__(self) -> None:
        super().__init__("gripper")
        values = declare(self, PARAMETERS)
        if values["kind"] not in KINDS:
            raise RobosteerError(f"kind: found {values['kind']!r}, expected one of {', '.join(KINDS)}")
        self._gripper = load_rig(required_rig(values["rig"])).gripper
        names = ("binary", "close_above", "open_below", "debounce_s", "min_interval_s")
        self._decision = GripDecision(dataclasses.replace(RULES, **{name: values[name] for name in names}))
        self._action, self._make_goal = _load(values["kind"]), KINDS[values["kind"]]
        self._effort: float = values["max_effort"]
        self._client = ActionClient(self, self._action, values["action"])
        self._heard = self.create_subscription(Float64, self._gripper.command_topic, self._on_position, RELIABLE)
        self._timer = self.create_timer(POLL_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_position(self, message: Float64) -> None:
        self._decision.hear(message.data, time.monotonic_ns())

    def _tick(self) -> None:
        if not self._client.server_is_ready():
            return
        closed = self._decision.due(time.monotonic_ns())
        if closed is not None:
            position = self._gripper.denormalise(closed)
            self._client.send_goal_async(
                self._make_goal(self._action, self._gripper.state_joint, position, self._effort)
            )


def main() -> int:
    """Entry point of `ros2 run robosteer_policy gripper`."""
    return run_node(GripperNode)
