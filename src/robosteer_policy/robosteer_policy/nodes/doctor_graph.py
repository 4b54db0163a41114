"""Look at the live graph for `robosteer doctor`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rcl_interfaces.srv import GetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String

from robosteer_policy.doctor import GraphFacts
from robosteer_policy.guard.proof import Requirement
from robosteer_policy.nodes.guard_interlocks import plain_value
from robosteer_policy.nodes.qos import LATCHED
from robosteer_rig.messages import json_object
from robosteer_rig.nodes.claims import NAMELESS
from robosteer_rig.rig import Rig

ANSWER_S = 2.0


def look(rig: Rig, needs: Sequence[Requirement], seconds: float) -> GraphFacts:
    """Listen for a while.

    Args:
        rig: names the command topic.
        needs: parameters to read back.
        seconds: how long.
    """
    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        node = Node("doctor", context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        guard, policy = _latest(node, "/robosteer/guard/status"), _latest(node, "/robosteer/policy/state")
        _spin(executor, seconds, lambda: bool(guard and policy))
        found = {(need.node, need.parameter): _read(node, executor, need) for need in needs}
        topic = rig.arm.command_topic
        # A publisher is known before the name of its node is: the guard's own must not pass for a stranger's.
        _spin(executor, ANSWER_S, lambda: NAMELESS not in _writers(node, topic))
        facts = GraphFacts(
            guard[-1] if guard else None,
            policy[-1] if policy else None,
            _writers(node, topic),
            node.count_subscribers(topic),
            found,
        )
        executor.shutdown()
        node.destroy_node()
        return facts
    finally:
        rclpy.shutdown(context=context)


def _writers(node: Node, topic: str) -> tuple[str, ...]:
    return tuple(sorted(info.node_name for info in node.get_publishers_info_by_topic(topic)))


def _latest(node: Node, topic: str) -> list[dict[str, Any]]:
    heard: list[dict[str, Any]] = []

    def receive(message: String) -> None:
        value = json_object(message.data)
        if value is not None:
            heard.append(value)

    node.create_subscription(String, topic, receive, LATCHED)
    return heard


def _read(node: Node, executor: SingleThreadedExecutor, need: Requirement) -> object:
    client = node.create_client(GetParameters, f"{need.node}/get_parameters")
    _spin(executor, ANSWER_S, client.service_is_ready)
    if not client.service_is_ready():
        return None
    future = client.call_async(GetParameters.Request(names=[need.parameter]))
    _spin(executor, ANSWER_S, future.done)
    answer = future.result() if future.done() else None
    return plain_value(answer.values[0]) if answer is not None and answer.values else None


def _spin(executor: SingleThreadedExecutor, seconds: float, over: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not over():
        executor.spin_once(timeout_sec=0.05)
