"""A private ROS graph per test: processes of our nodes, and a probe that plays the rest of the robot."""

import array
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import SetBool

from .panda import JOINTS, READY

# Generous, because it only ends a test that has failed: machines that test are busy.
DEADLINE_S = 180.0
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def free_domain() -> int:
    """A ROS domain whose discovery port nobody listens on."""
    for attempt in range(101):
        domain = (os.getpid() + time.monotonic_ns() // 1000 + attempt) % 101 + 1
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
            try:
                port.bind(("", 7400 + 250 * domain + 10))
            except OSError:
                continue
            return domain
    raise RuntimeError("no free ROS domain")


class Graph:
    """One domain: starts processes in it and reaps them."""

    def __init__(self, tmp_path: Path) -> None:
        self.domain = free_domain()
        self.tmp_path = tmp_path
        self.processes: list[subprocess.Popen[str]] = []
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("ROS_")},
            "ROS_DOMAIN_ID": str(self.domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "ROS_LOG_DIR": str(tmp_path / "log"),
            "JAX_PLATFORMS": "cpu",
        }
        # A ROS environment's Python that starts another one must not tell it that its libraries are set up already.
        self.environment.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)

    def start(
        self, code: str, parameters: Mapping[str, Any] | None = None, *, words: Sequence[str] = (), **environment: str
    ) -> subprocess.Popen[str]:
        """Run Python code in the domain, with ROS parameters, other arguments, and more environment."""
        options = [f"-p{name}:={json.dumps(value)}" for name, value in (parameters or {}).items()]
        pairs = [part for option in options for part in ("-p", option[2:])]
        arguments = ["--ros-args", *pairs] if pairs else []
        log = (self.tmp_path / f"process{len(self.processes)}.log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words, *arguments],
            env=self.environment | environment,
            stdout=log,
            stderr=log,
            text=True,
        )
        self.processes.append(process)
        return process

    def start_node(self, module: str, **parameters: Any) -> subprocess.Popen[str]:
        """Run a node's `main`."""
        return self.start(f"from {module} import main; raise SystemExit(main())", parameters)

    def output(self) -> str:
        """What all processes have printed so far."""
        return "\n".join(path.read_text() for path in sorted(self.tmp_path.glob("process*.log")))

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


@contextlib.contextmanager
def graph(tmp_path: Path) -> Iterator[Graph]:
    """A graph whose processes do not outlive the test."""
    world = Graph(tmp_path)
    try:
        yield world
    finally:
        world.close()


class Probe:
    """Listens to the guard, and plays the arm: joint states that follow the commands exactly.

    Attributes:
        commands: (monotonic time in s, velocity (7,)) of every message on the arm's command topic.
        status: the newest message of each JSON state topic.
    """

    def __init__(self, world: Graph, *, plays_arm: bool = True) -> None:
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        self.world = world
        self.context = Context()
        rclpy.init(context=self.context, domain_id=world.domain)
        self.node = Node("probe", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.commands: list[tuple[float, np.ndarray]] = []
        self.gripper: list[float] = []
        self.states: list[tuple[float, np.ndarray, np.ndarray]] = []
        self.status: dict[str, dict[str, Any]] = {}
        self.position = READY.copy()
        self.names = list(JOINTS)
        self.publishers: dict[str, Any] = {}
        self.node.create_subscription(Float64MultiArray, "/joint_velocity_controller/commands", self._heard, 100)
        self.node.create_subscription(Float64, "/gripper/command", lambda m: self.gripper.append(m.data), 10)
        for topic in ("guard/status", "policy/state"):
            self.node.create_subscription(String, f"/robosteer/{topic}", self._state_callback(topic), LATCHED)
        self.arming = self.node.create_client(SetBool, "/guard/arm")
        if plays_arm:
            self.joint_states = self.node.create_publisher(JointState, "/joint_states", 10)
            self.measuring = self.node.create_timer(0.01, self._measure)
        else:
            self.node.create_subscription(JointState, "/joint_states", self._measured, 100)

    def _heard(self, message: Float64MultiArray) -> None:
        self.commands.append((time.monotonic(), np.array(message.data)))

    def _measured(self, message: JointState) -> None:
        index = [list(message.name).index(joint) for joint in JOINTS]
        row = time.monotonic(), np.array(message.position)[index], np.array(message.velocity)[index]
        self.states.append(row)

    def _state_callback(self, topic: str) -> Callable[[String], None]:
        def receive(message: String) -> None:
            self.status[topic] = json.loads(message.data)

        return receive

    def _measure(self) -> None:
        velocity = self.commands[-1][1] if self.commands else np.zeros(7)
        self.position = self.position + 0.01 * velocity
        message = JointState(name=self.names)
        message.header.stamp = self.node.get_clock().now().to_msg()
        message.position = array.array("d", self.position.tobytes())
        message.velocity = array.array("d", np.asarray(velocity, dtype=np.float64).tobytes())
        self.joint_states.publish(message)

    def spin(self, seconds: float) -> None:
        """Listen for some time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.01)

    def until(self, condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> None:
        """Listen until a condition holds; the deadline only ends a test that has failed."""
        end = time.monotonic() + deadline_s
        while not condition():
            self._check_progress(end, what)
            self.executor.spin_once(timeout_sec=0.02)

    def _check_progress(self, end: float, what: str) -> None:
        failed = [p.returncode for p in self.world.processes if (p.poll() or 0) > 0]
        waiting = not failed and time.monotonic() < end
        assert waiting, f"waited for {what}\n{self.status}\n{self.world.output()}"

    def drive_until(self, condition: Callable[[], Any], what: str, velocity: Any, source: str) -> None:
        """Publish a command at 50 Hz until a condition holds."""
        end = time.monotonic() + DEADLINE_S
        while not condition():
            self._check_progress(end, what)
            self.say(velocity, source)
            self.spin(0.02)

    def say(self, velocity: Any, source: str = "policy", names: Any = JOINTS, age_s: float = 0.0) -> None:
        """Publish one command."""
        topic = f"/robosteer/{source}/command"
        if topic not in self.publishers:
            self.publishers[topic] = self.node.create_publisher(JointState, topic, 10)
            self.until(lambda: self.node.count_subscribers(topic), "the guard's subscription")
        message = JointState(name=list(names))
        stamp = self.node.get_clock().now() - rclpy.duration.Duration(nanoseconds=int(age_s * 1e9))
        message.header.stamp = stamp.to_msg()
        message.velocity = array.array("d", velocity)
        self.publishers[topic].publish(message)

    def arm(self) -> None:
        """Arm the guard, as often as it takes until joint states flow."""
        self.until(self.arming.service_is_ready, "the guard's service")
        self.until(lambda: self._try_to_arm().success, "arming")

    def _try_to_arm(self) -> SetBool.Response:
        return self.call(self.arming, SetBool.Request(data=True))

    def call(self, client: Any, request: Any) -> Any:
        """Call a service while listening."""
        self.until(client.service_is_ready, client.srv_name)
        future = client.call_async(request)
        self.until(future.done, client.srv_name)
        return future.result()

    def guard(self) -> dict[str, Any]:
        """The guard's newest status."""
        return self.status.get("guard/status", {})

    def moving(self, speed: float) -> bool:
        """Whether the newest command moves a joint at least that fast."""
        return bool(self.commands) and float(np.abs(self.commands[-1][1]).max()) >= speed

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


def unscheduled(times: Sequence[float], since: float, until: float, slack_s: float) -> float:
    """For how long a 100 Hz stream said nothing beyond its period and some slack: somebody was not scheduled, s."""
    inside = [since, *(t for t in times if since <= t <= until)]
    return sum(max(b - a - 0.01 - slack_s, 0.0) for a, b in itertools.pairwise(inside))


def time_to_rest(samples: list[tuple[float, np.ndarray]], since: float, still: float) -> tuple[float, float]:
    """When a recorded motion ended.

    Args:
        samples: (time in s, velocities), in order.
        since: time of the fault.
        still: speed that counts as rest, rad/s.

    Returns:
        Seconds from the fault to the first sample of the final rest, and how much of it nothing was sampled at all
        (gaps beyond the nominal 10 ms: somebody was not scheduled, which says nothing about the code).
    """
    later = [(t, float(np.abs(v).max())) for t, v in samples if t >= since]
    moving = [i for i, (_, speed) in enumerate(later) if speed > still]
    end = moving[-1] + 1 if moving else 0
    assert end < len(later), "the motion did not end"
    stalls = unscheduled([t for t, _ in later], since, later[end][0], 0.002)
    return later[end][0] - since, stalls
