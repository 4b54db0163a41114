"""What a person does with buttons, for nodes that stand in for one: call services, set parameters, wait and watch."""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from robosteer_rig.errors import RobosteerError
from robosteer_rig.nodes.running import ros_process


class Interrupted(Exception):
    """The process was asked to stop."""


class Session:
    """Blocking calls on top of a node that this object spins itself.

    Args:
        node: the node; the session owns its executor.
        stop: set by the signal handlers; every wait then raises `Interrupted`.
    """

    def __init__(self, node: Node, stop: threading.Event) -> None:
        self.node = node
        self._stop = stop
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)

    def wait_until(self, done: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Spin until a condition holds.

        Args:
            done: the condition.
            timeout_s: wall-clock patience.
            what: names the condition in the error.

        Raises:
            RobosteerError: when time is up.
            Interrupted: when the process was asked to stop.
        """
        deadline = time.monotonic() + timeout_s
        while not done():
            if self._stop.is_set():
                raise Interrupted
            if time.monotonic() > deadline:
                raise RobosteerError(f"{what}: not seen within {timeout_s:g} s")
            self._executor.spin_once(timeout_sec=0.02)

    def call(self, service_type: Any, name: str, request: Any, timeout_s: float = 10.0) -> Any:
        """Call a service and wait for its answer.

        Raises:
            RobosteerError: when the service is absent or silent.
        """
        client = self.node.create_client(service_type, name)
        try:
            self.wait_until(client.service_is_ready, timeout_s, f"service {name}")
            future = client.call_async(request)
            self.wait_until(future.done, timeout_s, f"answer of service {name}")
            return future.result()
        finally:
            self.node.destroy_client(client)

    def trigger(self, name: str) -> str:
        """Call a `std_srvs/Trigger` service; its refusal is an error.

        Returns:
            The message of the answer.
        """
        answer = self.call(Trigger, name, Trigger.Request())
        if not answer.success:
            raise RobosteerError(f"{name}: refused, {answer.message}")
        return answer.message

    def switch(self, name: str, on: bool) -> None:
        """Call a `std_srvs/SetBool` service; its refusal is an error."""
        answer = self.call(SetBool, name, SetBool.Request(data=on))
        if not answer.success:
            raise RobosteerError(f"{name} {on}: refused, {answer.message}")

    def set_parameters(self, node_name: str, **values: Any) -> None:
        """Set parameters of another node, all at once; a refusal is an error that says which and why."""
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        )
        answer = self.call(SetParameters, f"{node_name}/set_parameters", request)
        for name, result in zip(values, answer.results, strict=True):
            if not result.successful:
                raise RobosteerError(f"{node_name} parameter {name}={values[name]!r}: refused, {result.reason}")

    def close(self) -> None:
        """Stop spinning."""
        self._executor.shutdown()


def run_session(name: str, perform: Callable[[Node, threading.Event], None], unfinished: str) -> int:
    """The whole life of a process whose node has work that ends.

    Args:
        name: of node and program.
        perform: does the work; gets the node and the event that asks it to stop.
        unfinished: what to say when it was asked to stop before its end.

    Returns:
        The exit code: 0, 1 after what the user can fix, 130 after an interruption.
    """
    try:
        with ros_process() as stop:
            node = Node(name)
            try:
                perform(node, stop)
            finally:
                node.destroy_node()
    except RobosteerError as problem:
        print(f"{name}: {problem}", file=sys.stderr, flush=True)
        return 1
    except Interrupted:
        print(f"{name}: {unfinished}", file=sys.stderr, flush=True)
        return 130
    return 0


class JsonTopic:
    """The latest message of a JSON `std_msgs/String` topic.

    Attributes:
        value: the decoded object, None before the first message.
    """

    def __init__(self, node: Node, topic: str, qos: Any) -> None:
        self.value: dict[str, Any] | None = None
        node.create_subscription(String, topic, self._receive, qos)

    def _receive(self, message: String) -> None:
        self.value = json.loads(message.data)


def interval_statistics(stamps_s: Sequence[float]) -> dict[str, float]:
    """Rate and jitter of a stream.

    Args:
        stamps_s: arrival times on one monotonic clock, increasing.

    Returns:
        count, rate_hz, and 99th percentile and maximum of |interval - median interval| in ms.
    """
    if len(stamps_s) < 3:
        return {"count": len(stamps_s), "rate_hz": 0.0, "jitter_p99_ms": 0.0, "jitter_max_ms": 0.0}
    intervals = sorted(b - a for a, b in itertools.pairwise(stamps_s))
    median = intervals[len(intervals) // 2]
    deviation = sorted(abs(i - median) for i in intervals)
    return {
        "count": len(stamps_s),
        "rate_hz": (len(stamps_s) - 1) / (stamps_s[-1] - stamps_s[0]),
        "jitter_p99_ms": 1e3 * deviation[min(len(deviation) - 1, int(0.99 * len(deviation)))],
        "jitter_max_ms": 1e3 * deviation[-1],
    }
