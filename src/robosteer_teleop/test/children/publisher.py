"""Publish everything that a rig's robot publishes, numbered; argv: rig file.

The number stands in the header's frame_id, or is the value. SIGUSR1 mutes the first camera, SIGUSR2 unmutes it.
Runs until SIGTERM.
"""

import array
import importlib
import json
import signal
import sys
import threading

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from robosteer_rig.rig import load_rig
from robosteer_teleop.topics import FLOAT64, recorded_topics

JPEG = array.array("B", bytes(15_000))
RATES_HZ = {"/joint_states": 100.0, "/joint_velocity_controller/commands": 100.0, "/gripper/joint_states": 30.0}
BEST_EFFORT = ("/joint_velocity_controller/commands",)


class Publisher:
    def __init__(self, node, topic):
        module, name = topic.type.split("/msg/")
        self.message_class = getattr(importlib.import_module(f"{module}.msg"), name)
        reliability = ReliabilityPolicy.BEST_EFFORT if topic.name in BEST_EFFORT else ReliabilityPolicy.RELIABLE
        self.publisher = node.create_publisher(
            self.message_class, topic.name, QoSProfile(depth=10, reliability=reliability)
        )
        self.node, self.topic, self.number, self.muted = node, topic, 0, False
        node.create_timer(1.0 / RATES_HZ.get(topic.name, 15.0), self.publish)

    def publish(self):
        if self.muted:
            return
        message = self.message_class()
        if hasattr(message, "header"):
            message.header.stamp = self.node.get_clock().now().to_msg()
            message.header.frame_id = str(self.number)
        if hasattr(message, "format"):
            message.format, message.data = "jpeg", JPEG
        elif self.topic.type == FLOAT64:
            message.data = float(self.number)
        elif hasattr(message, "layout"):
            message.data = array.array("d", [float(self.number)] * 7)
        elif self.topic.type == "std_msgs/msg/String":
            message.data = json.dumps({"number": self.number})
        self.publisher.publish(message)
        self.number += 1


def main():
    stop = threading.Event()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("publisher")
    publishers = {topic.name: Publisher(node, topic) for topic in recorded_topics(load_rig(sys.argv[1]))}
    camera = next(p for name, p in publishers.items() if name.endswith("/compressed"))
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGUSR1, lambda *_: setattr(camera, "muted", True))
    signal.signal(signal.SIGUSR2, lambda *_: setattr(camera, "muted", False))
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not stop.is_set():
        executor.spin_once(timeout_sec=0.05)
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
