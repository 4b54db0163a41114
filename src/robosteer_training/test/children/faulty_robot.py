"""Publish some of a rig's streams, wrongly; argv: rig file. Says "ready" and runs until a line arrives on stdin.

The joint state is best effort, the gripper has two publishers, the wrist camera is right, the other one is silent.
"""

import array
import io
import select
import sys

import numpy as np
import rclpy
from PIL import Image
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, JointState

from robosteer_rig.rig import load_rig


def jpeg(shade, width, height):
    file = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), shade, np.uint8)).save(file, "JPEG")
    return array.array("B", file.getvalue())


def main():
    rig = load_rig(sys.argv[1])
    camera = rig.cameras["wrist"]
    rclpy.init()
    node = rclpy.create_node("faulty_robot")
    best_effort = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
    joints = node.create_publisher(JointState, rig.arm.state_topic, best_effort)
    grippers = [node.create_publisher(JointState, rig.gripper.state_topic, 10) for _ in range(2)]
    wrist = node.create_publisher(CompressedImage, camera.topic, 10)
    shade = 0

    def stamped(message):
        message.header.stamp = node.get_clock().now().to_msg()
        return message

    def publish():
        nonlocal shade
        shade = (shade + 1) % 256
        joints.publish(stamped(JointState(name=list(rig.arm.joints), position=[0.0] * 7, velocity=[0.0] * 7)))
        grippers[0].publish(stamped(JointState(name=[rig.gripper.state_joint], position=[0.0])))
        wrist.publish(stamped(CompressedImage(format="jpeg", data=jpeg(shade, camera.width, camera.height))))

    node.create_timer(1 / 15, publish)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        executor.spin_once(timeout_sec=0.1)
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
