"""Play a recording through real topics and align what arrives; argv: rig file, bag, .npz to write.

Player and listener are two nodes in contexts of their own, so that messages go through DDS. Each message is published
once the one before has arrived: what is compared is the content, not the machine's speed.
"""

import importlib
import sys
import time
from pathlib import Path

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import Reader

from robosteer_rig.align import Aligner
from robosteer_rig.droid import state_vector
from robosteer_rig.rig import load_rig

QOS = QoSProfile(depth=50)
DEADLINE_S = 60.0


def message_class(kind):
    module, name = kind.split("/msg/")
    return getattr(importlib.import_module(f"{module}.msg"), name)


class Side:
    def __init__(self, name):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node(name, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


def main():
    rig = load_rig(sys.argv[1])
    aligner, frames, arrived = Aligner(rig), [], []
    player, listener = Side("player"), Side("listener")
    publishers = {}
    log_ns = 0

    def take(stream):
        def receive(message):
            aligner.receive(stream, message, log_ns)
            frames.extend(aligner.ready())
            arrived.append(stream)

        return receive

    for stream, (topic, kind) in rig.observation_topics().items():
        listener.node.create_subscription(message_class(kind), topic, take(stream), QOS)
        publishers[topic] = player.node.create_publisher(message_class(kind), topic, QOS)
    end = time.monotonic() + DEADLINE_S

    def wait(condition):
        while not condition():
            assert time.monotonic() < end, f"{len(arrived)} messages arrived in {DEADLINE_S} s"
            listener.executor.spin_once(timeout_sec=0.05)

    wait(lambda: all(publisher.get_subscription_count() for publisher in publishers.values()))
    with Reader(Path(sys.argv[2])) as bag:
        wanted = [connection for connection in bag.connections if connection.topic in publishers]
        for sent, (connection, log_ns, data) in enumerate(bag.messages(connections=wanted), start=1):  # noqa: B007 - `take` reads log_ns
            message = deserialize_message(bytes(data), message_class(connection.msgtype))
            publishers[connection.topic].publish(message)
            wait(lambda sent=sent: len(arrived) == sent)
    frames.extend(aligner.flush())
    images = {name: np.stack([frame.images[name] for frame in frames]) for name in aligner.cameras}
    np.savez(
        sys.argv[3],
        stamp_ns=np.array([frame.stamp_ns for frame in frames]),
        state=np.stack([state_vector(frame) for frame in frames]),
        joint_velocity=np.stack([frame.joint_velocity.astype(np.float32) for frame in frames]),
        **images,
    )
    player.close()
    listener.close()


if __name__ == "__main__":
    main()
