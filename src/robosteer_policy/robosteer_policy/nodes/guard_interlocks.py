"""Where the guard's interlocks are heard: deadman topic, watchdog, parameters of the controller's process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from std_msgs.msg import Bool, String

from robosteer_policy.guard.interlocks import Interlock
from robosteer_policy.guard.proof import Answers, Requirement, unproved
from robosteer_policy.guard.streams import Instant
from robosteer_policy.nodes.qos import RELIABLE
from robosteer_rig.messages import json_object

WATCHDOG_TOPIC = "/robosteer/watchdog/status"
WATCHDOG_PERIOD_S = 0.05
PROOF_PERIOD_S = 1.0
PROOF_AGE_S = 5 * PROOF_PERIOD_S
_FIELDS = {
    ParameterType.PARAMETER_BOOL: "bool_value",
    ParameterType.PARAMETER_INTEGER: "integer_value",
    ParameterType.PARAMETER_DOUBLE: "double_value",
    ParameterType.PARAMETER_STRING: "string_value",
}


def plain_value(value: ParameterValue) -> bool | int | float | str | None:
    """A scalar parameter's value; None for a parameter that is not set or is a list."""
    field = _FIELDS.get(value.type)
    return None if field is None else getattr(value, field)


def deadman(node: Node, topic: str, max_age_s: float, now: Callable[[], Instant]) -> Interlock:
    """A switch that a person holds: std_msgs/Bool, true while it is held, repeated."""
    interlock = Interlock("deadman", max_age_s)

    def receive(message: Bool) -> None:
        interlock.hear("" if message.data else "released", now())

    node.create_subscription(Bool, topic, receive, RELIABLE)
    return interlock


def watchdog(node: Node, max_age_s: float, now: Callable[[], Instant]) -> Interlock:
    """The watchdog beside the controller: alive, and ready to act."""
    interlock = Interlock("watchdog", max_age_s)

    def receive(message: String) -> None:
        interlock.hear(_watchdog_problem(message.data), now())

    node.create_subscription(String, WATCHDOG_TOPIC, receive, RELIABLE)
    return interlock


def _watchdog_problem(text: str) -> str:
    status = json_object(text)
    if status is None or not isinstance(status.get("ready"), bool):
        return "says something that is not its status"
    return "" if status["ready"] else str(status.get("reason"))


class LimiterProof:
    """Reads parameters of other nodes back, again and again, through the standard parameter services.

    Attributes:
        interlock: good while every requirement was met in the last few seconds.
    """

    def __init__(self, node: Node, requirements: Sequence[Requirement], now: Callable[[], Instant]) -> None:
        self.interlock = Interlock("rate limiter", PROOF_AGE_S)
        self._requirements, self._now = requirements, now
        self._answers = Answers(PROOF_AGE_S)
        names = sorted({need.node for need in requirements})
        self._clients = {name: node.create_client(GetParameters, f"{name}/get_parameters") for name in names}
        self._pending: dict[str, Any] = {}
        node.create_timer(PROOF_PERIOD_S / 2, self._ask, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _ask(self) -> None:
        for name, client in self._clients.items():
            parameters = [need.parameter for need in self._requirements if need.node == name]
            if not client.service_is_ready():
                self._take(name, parameters, [None] * len(parameters))
                continue
            pending = self._pending.get(name)
            if pending is not None and not pending.done():
                client.remove_pending_request(pending)
            future = client.call_async(GetParameters.Request(names=parameters))
            future.add_done_callback(self._answer(name, parameters))
            self._pending[name] = future

    def _answer(self, name: str, parameters: list[str]) -> Callable[[Any], None]:
        def receive(future: Any) -> None:
            if future.cancelled() or future.exception() is not None:
                self._take(name, parameters, [None] * len(parameters))
            else:
                self._take(name, parameters, [plain_value(value) for value in future.result().values])

        return receive

    def _take(self, name: str, parameters: list[str], values: Sequence[object]) -> None:
        # A node that lacks one of the parameters may answer with fewer values than it was asked for.
        padded = [*values, *[None] * (len(parameters) - len(values))]
        now = self._now()
        self._answers.take(name, dict(zip(parameters, padded, strict=False)), now.steady_ns)
        self.interlock.hear(unproved(self._requirements, self._answers.fresh(now.steady_ns)), now)
