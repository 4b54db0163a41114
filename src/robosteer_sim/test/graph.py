"""A ROS graph for the node tests: a domain of its own, child processes, and waiting with a deadline."""

import os
import subprocess
import sys
import tempfile
import time

import rclpy
from rclpy.executors import SingleThreadedExecutor

DOMAIN = os.getpid() % 100 + 1
DEADLINE_S = 120.0
ENVIRONMENT = {
    "ROS_DOMAIN_ID": str(DOMAIN),
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    "ROS_LOG_DIR": tempfile.gettempdir(),
}


def start(module, *parameters):
    """A node of this package in a process of its own."""
    code = f"import sys; from robosteer_sim.nodes.{module} import main; sys.exit(main())"
    arguments = ["--ros-args", *(word for text in parameters for word in ("-p", text))]
    environment = {k: v for k, v in os.environ.items() if k != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"} | ENVIRONMENT
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Graph:
    """This process's node in the domain."""

    def __init__(self, name="test_cell"):
        os.environ |= ENVIRONMENT
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = rclpy.create_node(name, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def until(self, condition, what, timeout_s=DEADLINE_S):
        """Spin until the condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not seen within {timeout_s:g} s: {what}"
            self.executor.spin_once(timeout_sec=0.05)

    def collect(self, kind, topic, count, qos=10):
        """The next `count` messages of a topic."""
        found = []
        subscription = self.node.create_subscription(kind, topic, found.append, qos)
        self.until(lambda: len(found) >= count, f"{count} messages on {topic}")
        self.node.destroy_subscription(subscription)
        return found[:count]

    def call(self, kind, name, request):
        """A service's answer."""
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready, f"service {name}")
        future = client.call_async(request)
        self.until(future.done, f"answer of {name}")
        self.node.destroy_client(client)
        return future.result()

    def close(self):
        """Leave the domain."""
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)
