"""Live steering's topics and service: `~/steer/set`, `~/steer/deadman`, `~/steer/state`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from rcl_interfaces.msg import ParameterType, SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from std_msgs.msg import Bool, String

from robosteer_policy.nodes.qos import LATCHED, RELIABLE
from robosteer_policy.requests import Steering
from robosteer_policy.steering.mixer import Mixer, parse_request
from robosteer_rig.errors import RobosteerError

STATE_PERIOD_S = 0.2


class SteeringInterface:
    """Takes wishes from a topic (JSON text) and a service (the same text as the one parameter `request`).

    Args:
        node: that owns the topics.
        mixer: decides.
        shadow: which policy is computed but not executed.
        checkpoint: digest of the loaded parameters, empty until they are loaded.
    """

    def __init__(self, node: Node, mixer: Mixer, shadow: str, checkpoint: Callable[[], str]) -> None:
        self._node, self._mixer, self._shadow, self._checkpoint = node, mixer, shadow, checkpoint
        self._shown = ""
        self._state = node.create_publisher(String, "~/steer/state", LATCHED)
        node.create_subscription(String, "~/steer/set", self._on_wish, RELIABLE)
        node.create_subscription(Bool, "~/steer/deadman", self._on_deadman, RELIABLE)
        node.create_service(SetParameters, "~/steer/set", self._on_call)
        node.create_timer(STATE_PERIOD_S, self.show, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.show()

    def present(self) -> Steering:
        """What the next inference is steered by."""
        # Without anything that acts both policies are the same, and one is enough.
        strengths = self._mixer.strengths(time.monotonic_ns())
        return Steering(strengths, self._shadow if strengths else "")

    def release(self) -> None:
        """Bring every λ to 0, as at the end of a run."""
        self._mixer.release(time.monotonic_ns())
        self.show()

    def set(self, text: str) -> str:
        """Take a request; returns why it is refused, or an empty string."""
        self._mixer.checkpoint = self._checkpoint()
        try:
            trouble = self._mixer.set(parse_request(text), time.monotonic_ns())
        except RobosteerError as error:
            trouble = str(error)
        if trouble:
            self._node.get_logger().warning(f"steering refused: {trouble}")
        self.show()
        return trouble

    def show(self) -> None:
        """Publish the state if it has changed."""
        self._mixer.checkpoint = self._checkpoint()
        text = json.dumps(self._mixer.describe(time.monotonic_ns()))
        if text != self._shown:
            self._shown = text
            self._state.publish(String(data=text))

    def _on_wish(self, message: String) -> None:
        self.set(message.data)

    def _on_deadman(self, message: Bool) -> None:
        self._mixer.deadman(message.data, time.monotonic_ns())

    def _on_call(self, request: SetParameters.Request, response: SetParameters.Response) -> SetParameters.Response:
        results = []
        for parameter in request.parameters:
            if parameter.name == "request" and parameter.value.type == ParameterType.PARAMETER_STRING:
                trouble = self.set(parameter.value.string_value)
            else:
                trouble = f"steer: found parameter {parameter.name!r}, expected request with JSON text"
            results.append(SetParametersResult(successful=not trouble, reason=trouble))
        response.results = results
        return response
