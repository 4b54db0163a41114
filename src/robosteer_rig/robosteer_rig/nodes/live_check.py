"""Check a live ROS graph against a rig."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from robosteer_rig.check import RigCheck, TopicFacts
from robosteer_rig.rig import Rig

DEPTH = 200  # A second of joint states while a picture is being looked at.


def check_live(rig: Rig, seconds: float) -> RigCheck:
    """Listen to every topic of the rig for a while.

    Args:
        rig: the contract.
        seconds: how long.
    """
    context = rclpy.Context()
    rclpy.init(context=context)
    check = RigCheck(rig)
    try:
        node = rclpy.create_node("rig_check", context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        for stream, (topic, message_type) in rig.topics().items():
            _subscribe(node, topic, message_type, _receiver(check, stream))
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            executor.spin_once(timeout_sec=min(left, 0.1))
        for stream, (topic, _) in rig.topics().items():
            check.facts[stream] = _facts(node, topic)
        executor.shutdown()
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
    return check


def _subscribe(node: Node, topic: str, message_type: str, receive: Callable[[Any], None]) -> None:
    module, name = message_type.split("/msg/")
    message_class = getattr(importlib.import_module(f"{module}.msg"), name)
    # Best effort matches every publisher: what nobody would get otherwise is a matter of the verdict, not of the watch.
    qos = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT, durability=DurabilityPolicy.VOLATILE)
    node.create_subscription(message_class, topic, receive, qos)


def _receiver(check: RigCheck, stream: str) -> Callable[[Any], None]:
    return lambda message: check.receive(stream, message, time.time_ns())


def _facts(node: Node, topic: str) -> TopicFacts:
    publishers = node.get_publishers_info_by_topic(topic)
    qos = tuple(
        (info.qos_profile.reliability.name.lower(), info.qos_profile.durability.name.lower()) for info in publishers
    )
    types = tuple(dict.fromkeys(info.topic_type for info in publishers))
    return TopicFacts(types, tuple(dict.fromkeys(qos)), len(publishers))
