"""Before an impedance controller may be steered: is it there, is it new enough, what are its parameters?

crisp_controllers before 2.0 filter the target attitude in logarithmic coordinates: a gripper that points down sits on
their seam, and a target change of 0.2 deg becomes a spike of 36 deg. Versions 2.1 and later have the parameter
`filter.q_ref`; without it nothing moves.
"""

from __future__ import annotations

import math
import time
from typing import Any

from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.node import Node

MARK = "filter.q_ref"
NEEDED_VERSION = "crisp_controllers 2.1 or later"
_FIELDS = {
    ParameterType.PARAMETER_BOOL: "bool_value",
    ParameterType.PARAMETER_INTEGER: "integer_value",
    ParameterType.PARAMETER_DOUBLE: "double_value",
    ParameterType.PARAMETER_STRING: "string_value",
    ParameterType.PARAMETER_DOUBLE_ARRAY: "double_array_value",
    ParameterType.PARAMETER_STRING_ARRAY: "string_array_value",
}


def _plain(value: ParameterValue) -> Any:
    """A parameter as plain data; None for one that is not set."""
    field = _FIELDS.get(value.type)
    found = getattr(value, field) if field is not None else None
    if isinstance(found, float):
        return found if math.isfinite(found) else None
    return list(found) if field is not None and field.endswith("array_value") and found is not None else found


class ControllerProbe:
    """Reads the controller's parameters back, once, without blocking the node.

    Attributes:
        parameters: name -> value; empty until they were read.
        refusal: why the controller must not be steered; "" when it may be.
    """

    def __init__(self, node: Node, controller: str, patience_s: float = 10.0) -> None:
        """Start asking.

        Args:
            node: spins.
            controller: name of the controller's node, for example "/cartesian_impedance_controller".
            patience_s: until a silent controller is reported as such, s; it is asked on.
        """
        self._node, self._controller = node, controller
        self._list = node.create_client(ListParameters, f"{controller}/list_parameters")
        self._get = node.create_client(GetParameters, f"{controller}/get_parameters")
        self._deadline_s = time.monotonic() + patience_s
        self._asked = False
        self.parameters: dict[str, Any] = {}
        self.refusal = f"{controller}: not asked yet"

    def poll(self) -> None:
        """Go on; call a few times a second."""
        if self._asked:
            return
        if self._list.service_is_ready() and self._get.service_is_ready():
            self._asked = True
            self._list.call_async(ListParameters.Request()).add_done_callback(self._listed)
        elif time.monotonic() > self._deadline_s:
            self.refusal = f"controller: found no node {self._controller}, expected {NEEDED_VERSION}; start it"

    def _listed(self, future: Any) -> None:
        names = list(future.result().result.names)
        if MARK not in names:
            self.refusal = (
                f"controller {self._controller}: found no parameter {MARK}, expected {NEEDED_VERSION}; older ones "
                "spike when the gripper points down: update it"
            )
            self._asked = False  # it may be replaced while we run
            self._deadline_s = math.inf
            return
        request = GetParameters.Request(names=names)
        self._get.call_async(request).add_done_callback(lambda done: self._read(names, done))

    def _read(self, names: list[str], future: Any) -> None:
        self.parameters = {name: _plain(value) for name, value in zip(names, future.result().values, strict=True)}
        self.refusal = ""
        self._node.get_logger().info(f"{self._controller}: {len(names)} parameters read back")


def require_target_topic(node: Node, topic: str) -> str:
    """Why the target topic is not ours alone; the controller ignores every message when it has two publishers."""
    writers = [info.node_name for info in node.get_publishers_info_by_topic(topic)]
    others = [name for name in writers if name != node.get_name()]
    if others:
        return f"{topic}: found publishers {', '.join(sorted(set(others)))}, expected this node alone; stop them"
    return ""
