"""From the page through the real teleop node to ROS messages in another process, and back to the headset.

Pins: a node that publishes a frame twice, out of order or not at all; poses in the headset's axes; a state that never
reaches the headset; a seat that the robot host cannot free; a process that survives SIGTERM and keeps the port.
"""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

RIG = Path(__file__).parents[3] / "robosteer_bringup/config/rigs/sim_panda.yaml"
NODE = "import sys; from robosteer_teleop.nodes.teleop import main; sys.exit(main())"


class Node:
    """The teleop node in a process of its own; `access` is what its connection file says."""

    def __init__(self, directory):
        self.file = directory / "link.json"
        parameters = {"rig": RIG, "port": -1, "loopback_port": 0, "connection_file": self.file, "align_first": False}
        words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        environment = {k: v for k, v in os.environ.items() if k != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
        self.process = subprocess.Popen([sys.executable, "-c", NODE, "--ros-args", *words], env=environment)

    @property
    def access(self):
        content = json.loads(self.file.read_text())
        return types.SimpleNamespace(**{**content, "urls": (content["url"],)})


@pytest.fixture
def graph(tmp_path, monkeypatch):
    """A ROS graph of its own with a subscriber to the hand."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(os.getpid() % 100 + 1))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path))
    import rclpy
    from geometry_msgs.msg import PoseStamped
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import Joy

    from robosteer_teleop.topics import HAND_TOPIC, JOY_TOPIC

    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("watcher", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    hands, joys = [], []
    node.create_subscription(PoseStamped, HAND_TOPIC, hands.append, 1000)
    node.create_subscription(Joy, JOY_TOPIC, joys.append, 1000)

    def spin():
        executor.spin_once(timeout_sec=0.02)
        for _ in range(30):  # faster than the frames come
            executor.spin_once(timeout_sec=0.0)

    yield types.SimpleNamespace(node=node, hands=hands, joys=joys, spin=spin)
    executor.shutdown()
    node.destroy_node()
    context.shutdown()


def test_the_hand_moves_in_ros_and_the_robot_speaks_to_the_headset(chromium, graph, tmp_path, make_quest):
    node = Node(tmp_path)
    quest = make_quest(chromium, node)

    def until(condition, what):
        def look():
            assert node.process.poll() is None, "the node ended"
            graph.spin()
            return condition()

        return quest.until(look, what, patience_s=60.0)

    try:
        until(node.file.exists, "the connection file")
        quest.pair()
        quest.page.click("#enter")
        until(lambda: graph.hands, "a pose")
        quest.run("quest.right.position.set(0.3, 1.2, -0.4)")
        # WebXR: x right, z back. ROS: x forward, y left.
        until(lambda: abs(graph.hands[-1].pose.position.y + 0.3) < 0.05, "the motion")
        assert graph.hands[-1].pose.position.x == pytest.approx(0.4, abs=0.05)
        quest.run("quest.right.updateButtonValue('a-button', 1)")
        until(lambda: graph.joys[-1].buttons[3] == 1, "the button")
        numbers = [int(joy.header.frame_id) for joy in graph.joys]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "each frame once, in order, without a gap"
        until(lambda: "Not armed" in quest.text("#state"), "the node's state on the page")
        free_the_seat(graph, until)
        until(lambda: "the seat was freed" in quest.text("#problem"), "the goodbye")
    finally:
        node.process.terminate()
        code = node.process.wait(timeout=60)
    assert code == 0
    assert not node.file.exists()


def free_the_seat(graph, until):
    from std_srvs.srv import Trigger

    client = graph.node.create_client(Trigger, "/teleop/release_operator")
    until(client.service_is_ready, "the service")
    future = client.call_async(Trigger.Request())
    until(future.done, "its answer")
    assert future.result().success
