"""A visitor of a running graph: calls one service, says one thing on a topic, or listens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from robosteer_bringup.nodes.fields import full_name, interface, make, plain
from robosteer_rig.errors import RobosteerError

_STEP_S = 0.1


class Visitor:
    """A node without parameters or log, in a context of its own; create it with `visit`.

    Args:
        context: a valid context.
        timeout_s: patience with the graph.
    """

    def __init__(self, context: Context, timeout_s: float) -> None:
        self._node = Node("robosteer_visitor", context=context, enable_rosout=False, start_parameter_services=False)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)
        self._timeout_s = timeout_s

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()

    def call(self, name: str, type_name: str, values: Any) -> dict[str, Any]:
        """Call a service and return its answer.

        Raises:
            RobosteerError: for a service that is not there or of another type, values that do not fit, no answer.
        """
        type_name = full_name(type_name, "srv")
        kind = interface(type_name)
        request = make(kind.Request, values)
        self._find("service", name, type_name, self._node.get_service_names_and_types)
        client = self._node.create_client(kind, name)
        self._wait(client.service_is_ready, f"service {name}")
        future = client.call_async(request)
        self._wait(future.done, f"answer of {name}")
        return plain(future.result())

    def publish(self, name: str, type_name: str, values: Any) -> None:
        """Publish one message, once somebody listens, and wait until it is there.

        Raises:
            RobosteerError: for a topic that is not there or of another type, values that do not fit, no listener.
        """
        type_name = full_name(type_name, "msg")
        kind = interface(type_name)
        message = make(kind, values)
        self._find("topic", name, type_name, self._node.get_topic_names_and_types)
        publisher = self._node.create_publisher(kind, name, 10)
        self._wait(lambda: publisher.get_subscription_count() > 0, f"listener of {name}")
        publisher.publish(message)
        publisher.wait_for_all_acked(Duration(nanoseconds=round(self._timeout_s * 1e9)))

    def listen(self, name: str, receive: Callable[[dict[str, Any]], bool]) -> None:
        """Hand on every message of a topic, until `receive` returns False.

        Raises:
            RobosteerError: for a topic that is not there, or whose type is not installed.
        """
        types = self._find("topic", name, "", self._node.get_topic_names_and_types)
        going = [True]

        def take(message: Any) -> None:
            going[0] = going[0] and receive(plain(message))

        self._node.create_subscription(interface(types[0]), name, take, self._offered(name))
        while going[0]:
            self._executor.spin_once(timeout_sec=_STEP_S)

    def _offered(self, name: str) -> QoSProfile:
        """A quality of service that every present publisher meets, with the last message where it is kept."""
        offers = [info.qos_profile for info in self._node.get_publishers_info_by_topic(name)]
        reliable = bool(offers) and all(o.reliability is ReliabilityPolicy.RELIABLE for o in offers)
        latched = bool(offers) and all(o.durability is DurabilityPolicy.TRANSIENT_LOCAL for o in offers)
        return QoSProfile(
            depth=10,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )

    def _find(
        self, what: str, name: str, type_name: str, known: Callable[[], list[tuple[str, list[str]]]]
    ) -> list[str]:
        """The types under which the graph knows a name; '' for `type_name` takes any."""
        if not name.startswith("/"):
            raise RobosteerError(f"{what}: found {name!r}, expected a full name that begins with /")

        def there() -> bool:
            return name in dict(known())

        self._wait(there, f"{what} {name}", lambda: _near(name, dict(known())))
        types = dict(known())[name]
        if type_name and type_name not in types:
            raise RobosteerError(f"{what} {name}: found type {type_name}, expected {', '.join(types)}")
        return types

    def _wait(self, done: Callable[[], bool], what: str, hint: Callable[[], str] = lambda: "") -> None:
        end = time.monotonic() + self._timeout_s
        while not done():
            if time.monotonic() > end:
                raise RobosteerError(
                    f"{what}: found none within {self._timeout_s:g} s, expected one; is the stack running, with the "
                    f"same ROS_DOMAIN_ID?{hint()}"
                )
            self._executor.spin_once(timeout_sec=_STEP_S)


def _near(name: str, known: dict[str, Any]) -> str:
    near = get_close_matches(name, known, n=3)
    return f" There is {' and '.join(near)}." if near else ""


@contextmanager
def visit(timeout_s: float) -> Iterator[Visitor]:
    """A visitor; Ctrl-C is Python's, so that it ends the wait."""
    context = Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    try:
        visitor = Visitor(context, timeout_s)
        try:
            yield visitor
        finally:
            visitor.close()
    finally:
        rclpy.try_shutdown(context=context)
