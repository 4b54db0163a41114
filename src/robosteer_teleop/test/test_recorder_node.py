"""The recorder node against a real publisher process over real DDS.

Pins: no message of an episode is lost between the first and the last (counted by number, also on a best-effort
topic's subscription that had to be matched); services answer with JSON and refuse with the topic's name; discard and
undo; SIGTERM while recording leaves a whole episode and exit code 0; a wrong parameter is one line and exit code 1.
"""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rosbags.highlevel import AnyReader

from robosteer_teleop.episode_record import read_episode_json

CHILDREN = Path(__file__).parent / "children"
DEADLINE_S = 60.0
BEST_EFFORT = ("/joint_velocity_controller/commands",)
RECORDER = [sys.executable, "-c", "import sys; from robosteer_teleop.nodes.recorder import main; sys.exit(main())"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return {
        **os.environ,
        "ROS_DOMAIN_ID": str(os.getpid() % 100 + 1),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOG_DIR": str(tmp_path_factory.mktemp("ros_log")),
    }


@pytest.fixture
def start(environment):
    """Start child processes and end them whatever happens."""
    processes = []

    def run(command):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield run
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


class Client:
    """Asks the recorder, in a context of its own."""

    def __init__(self):
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from std_msgs.msg import String
        from std_srvs.srv import Trigger

        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("client", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.trigger = Trigger
        self.state = {}
        qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.node.create_subscription(String, "/robosteer/recorder/state", self.on_state, qos)
        self.clients = {}

    def on_state(self, message):
        self.state = json.loads(message.data)

    def wait(self, condition):
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, self.state
            self.executor.spin_once(timeout_sec=0.1)

    def ask(self, name):
        client = self.clients.setdefault(name, self.node.create_client(self.trigger, f"/recorder/{name}"))
        self.wait(client.service_is_ready)
        future = client.call_async(self.trigger.Request())
        self.wait(future.done)
        return future.result().success, json.loads(future.result().message)

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.shutdown()


@pytest.fixture
def client(environment, monkeypatch):
    for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOG_DIR"):
        monkeypatch.setenv(name, environment[name])
    client = Client()
    yield client
    client.close()


def recorder_command(directory, rig_file, **parameters):
    relaxed = {"min_free_gib": 0.0, "min_rate_fraction": 0.0, "frozen_s": 0.0}  # the test's pictures are all equal
    parameters = {"directory": directory, "rig": rig_file, **relaxed, **parameters}
    arguments = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    return [*RECORDER, "--ros-args", *arguments]


def numbers_by_topic(bag):
    """Topic -> the publisher's numbers, read from the raw bytes or the deserialised header."""
    numbers = {}
    with AnyReader([bag]) as reader:
        for connection, _, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            if hasattr(message, "header"):
                number = int(message.header.frame_id)
            elif connection.msgtype == "std_msgs/msg/String":
                number = json.loads(message.data)["number"]
            elif connection.msgtype == "std_msgs/msg/Float64":
                number = int(struct.unpack_from("<d", raw, 4)[0])
            else:
                number = int(message.data[0])
            numbers.setdefault(connection.topic, []).append(number)
    return numbers


def recorded_enough(client, least):
    def check():
        topics = client.state.get("topics", {})
        return client.state.get("state") == "recording" and min(t["count"] for t in topics.values()) >= least

    return check


def test_life_of_episodes(tmp_path, rig_file, start, client):
    directory = tmp_path / "demos"
    publisher = start([sys.executable, str(CHILDREN / "publisher.py"), str(rig_file)])
    recorder = start(recorder_command(directory, rig_file, instruction="pick up red cube"))

    client.wait(lambda: client.state.get("ready") and min(t["rate_hz"] for t in client.state["topics"].values()) > 0)
    accepted, answer = client.ask("keep")
    assert not accepted
    assert "keep: found state ready" in answer["reason"]

    accepted, answer = client.ask("start")
    assert accepted
    assert (answer["schema"], answer["state"], answer["episode"]) == ("robosteer.recorder/1", "recording", 0)
    client.wait(recorded_enough(client, 20))
    assert client.ask("stop")[1]["state"] == "review"
    accepted, answer = client.ask("keep")
    assert accepted
    assert answer["path"] == str(directory / "000000")

    content = read_episode_json(directory / "000000")
    numbers = numbers_by_topic(directory / "000000")
    assert {name: len(found) for name, found in numbers.items()} == {
        name: topic["count"] for name, topic in content["topics"].items()
    }
    for name, found in numbers.items():
        if name == "/robosteer/guard/status":
            found = found[1:]  # the first is the latched one from before
        if name in BEST_EFFORT:
            assert found == sorted(set(found)), name  # the transport may lose some; the recorder must not reorder
        else:
            assert found == list(range(found[0], found[0] + len(found))), name
        assert len(found) >= 20, name
    assert content["instruction"] == "pick up red cube"
    assert content["outcome"] == "success"

    client.ask("start")
    client.wait(recorded_enough(client, 1))
    accepted, answer = client.ask("discard")
    assert answer["path"] == str(directory / "trash/000001")
    assert client.ask("undo_last")[1]["state"] == "review"
    client.ask("keep_failure")
    assert read_episode_json(directory / "000001")["outcome"] == "failure"

    publisher.send_signal(signal.SIGUSR1)
    client.wait(lambda: not client.state["ready"])
    accepted, answer = client.ask("start")
    assert not accepted
    assert "/wrist/zed_node/rgb/color/rect/image/compressed is silent" in answer["reason"]
    publisher.send_signal(signal.SIGUSR2)
    client.wait(lambda: client.state["ready"])

    client.ask("start")
    client.wait(recorded_enough(client, 10))
    recorder.send_signal(signal.SIGTERM)
    _, errors = recorder.communicate(timeout=DEADLINE_S)
    assert recorder.returncode == 0, errors
    content = read_episode_json(directory / "000002")
    assert content["outcome"] == "recovered"
    assert min(topic["count"] for topic in content["topics"].values()) >= 10
    assert list((directory / "partial").iterdir()) == []


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"rig_file": "/nowhere.yaml"}, "/nowhere.yaml"),
        ({"directory": "/proc/nowhere"}, "expected a writable directory"),
    ],
)
def test_a_wrong_parameter_is_one_line(tmp_path, rig_file, start, parameters, words):
    recorder = start(recorder_command(**{"directory": tmp_path / "demos", "rig_file": rig_file, **parameters}))
    _, errors = recorder.communicate(timeout=DEADLINE_S)
    assert recorder.returncode == 1
    assert words in errors
    assert "Traceback" not in errors
