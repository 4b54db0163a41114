"""`robosteer service` and `robosteer topic` against a real graph.

Pins: a how-to whose commands need an installed ROS 2; a wait without end for a service that nobody offers; a refusal of
a service that counts as success; a message that is lost because nobody listened yet; a state that was published before
anybody listened and is never shown; values of a wrong type that reach a node, or end in a traceback.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robosteer_bringup import cli
from robosteer_bringup.demo.process import ros_environment

ROBOT = """
import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.executors import ExternalShutdownException
from rcl_interfaces.srv import SetParameters
from rcl_interfaces.msg import SetParametersResult
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

rclpy.init()
node = rclpy.create_node("robot")
state = node.create_publisher(String, "/state", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
state.publish(String(data="asleep"))

def arm(request, response):
    response.success, response.message = request.data, "armed" if request.data else "never"
    return response

def heard(message):
    state.publish(String(data="heard " + message.data))

def moved(message):
    state.publish(String(data=f"{message.name} {list(message.position)} {message.header.stamp.sec}"))

def steer(request, response):
    response.results = [SetParametersResult(successful=p.value.string_value == "slow") for p in request.parameters]
    return response

node.create_service(SetBool, "/guard/arm", arm)
node.create_service(Trigger, "/stop", lambda request, response: response)
node.create_service(SetParameters, "/steer", steer)
node.create_subscription(String, "/set", heard, 10)
node.create_subscription(JointState, "/joints", moved, 10)
try:
    rclpy.spin(node)
except (KeyboardInterrupt, ExternalShutdownException):
    pass
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    environment = ros_environment(tmp_path_factory.mktemp("log"))
    robot = subprocess.Popen([sys.executable, "-c", ROBOT], env=environment)
    yield environment
    robot.send_signal(signal.SIGINT)
    assert robot.wait(30) == 0


@pytest.fixture
def robosteer(environment, monkeypatch, capsys):
    """Run a command in this process; returns exit code, output and complaint."""
    for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE"):
        monkeypatch.setenv(name, environment[name])

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main(words)
        return code, *capsys.readouterr()

    return run


def test_a_service_is_called_and_its_refusal_is_an_exit_code(robosteer) -> None:
    arm = ("service", "call", "/guard/arm", "std_srvs/srv/SetBool")
    assert robosteer(*arm, "{data: true}", "--timeout", "60") == (0, "success: true\nmessage: armed\n", "")
    assert robosteer(*arm, "{data: false}") == (1, "success: false\nmessage: never\n", "")
    assert robosteer("service", "call", "/stop", "std_srvs/Trigger")[:2] == (1, "success: false\nmessage: ''\n")
    parameters = "{parameters: [{name: request, value: {type: 4, string_value: slow}}, {name: other}]}"
    code, shown, _ = robosteer("service", "call", "/steer", "rcl_interfaces/srv/SetParameters", parameters)
    assert (code, shown.count("successful: true"), shown.count("successful: false")) == (0, 1, 1)


def test_what_is_said_arrives_and_the_last_state_is_shown_to_whoever_comes_later(robosteer) -> None:
    state = ("topic", "echo", "/state", "--once")
    assert robosteer(*state, "--timeout", "60")[1].endswith("---\n")
    assert robosteer("topic", "pub", "--once", "/set", "std_msgs/String", "{data: 'slow: 0.5'}") == (0, "", "")
    assert wait_for(lambda: robosteer(*state)[1], "data: 'heard slow: 0.5'\n---\n")
    joints = "{header: {stamp: {sec: 7}}, name: [a, b], position: [1, 2.5]}"
    assert robosteer("topic", "pub", "/joints", "sensor_msgs/msg/JointState", joints)[0] == 0
    assert wait_for(lambda: robosteer(*state)[1], "data: '[''a'', ''b''] [1.0, 2.5] 7'\n---\n")


def wait_for(look, expected: str, patience_s: float = 60.0) -> bool:
    end = time.monotonic() + patience_s
    while (found := look()) != expected:
        assert time.monotonic() < end, found
    return True


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("service call /guard/arn std_srvs/srv/SetBool --timeout 0.2", "service /guard/arn: found none within 0.2 s"),
        ("service call /guard/arm std_srvs/srv/Trigger", "found type std_srvs/srv/Trigger, expected std_srvs/srv/SetB"),
        ("service call guard/arm std_srvs/srv/SetBool", "found 'guard/arm', expected a full name that begins with /"),
        ("service call /guard/arm std_srvs/msg/SetBool", "type: found 'std_srvs/msg/SetBool', expected a name such as"),
        ("service call /guard/arm std_srvs/srv/SetBoot", "type std_srvs/srv/SetBoot: found none of that name here"),
        ("service call /guard/arm no_srvs/srv/SetBool", "type no_srvs/srv/SetBool: found none of that name here"),
        (
            "service call /guard/arm std_srvs/srv/SetBool {data:1}",
            "values: found a field 'data:1', expected one of data (b",
        ),
        ("service call /guard/arm std_srvs/srv/SetBool {on:", "values: found '{on:', expected YAML such as"),
        (
            "service call /guard/arm std_srvs/srv/SetBool [1]",
            "values: found [1], expected {field: value} of data (bool",
        ),
        ("topic pub /joints sensor_msgs/msg/JointState {position:&a}", "values: found a field 'position:&a'"),
        ("topic pub /nobody std_msgs/msg/String --timeout 0.2", "topic /nobody: found none within 0.2 s"),
        (
            "topic echo /stat --timeout 0.2",
            "found none within 0.2 s, expected one; is the stack running, with the same",
        ),
        ("topic echo /state --timeout 0", "--timeout: found 0, expected more than 0"),
    ],
)
def test_what_cannot_be_done_is_one_line(robosteer, words: str, complaint: str) -> None:
    words = words if "--timeout" in words else f"{words} --timeout 60"
    code, shown, error = robosteer(*words.split())
    assert (code, shown, error.count("\n")) == (1, "", 1), error
    assert complaint in error


def test_a_value_of_another_type_is_one_line(robosteer) -> None:
    arm = ("service", "call", "/guard/arm", "std_srvs/srv/SetBool")
    assert "values: data: found 'yes please', expected boolean" in robosteer(*arm, "{data: yes please}")[2]
    stamp = ("topic", "pub", "/joints", "sensor_msgs/msg/JointState")
    assert "values: sec: found 'now', expected int32" in robosteer(*stamp, "{header: {stamp: {sec: now}}}")[2]
    assert "values: found a field 'armed', expected one of data (boolean)" in robosteer(*arm, "{armed: true}")[2]


def test_ctrl_c_ends_listening(environment, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "robosteer_bringup.cli", "topic", "echo", "/state", "--timeout", "60"]
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        listener = subprocess.Popen(command, env=os.environ | environment, stdout=out, stderr=err)
        end = time.monotonic() + 60.0
        while "---" not in (tmp_path / "out").read_text() and time.monotonic() < end:
            time.sleep(0.05)
        listener.send_signal(signal.SIGINT)
        assert listener.wait(30) == 130
    assert (tmp_path / "err").read_text() == "robosteer topic: interrupted\n"
