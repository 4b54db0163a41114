"""The node `cell` over real DDS, in a process of its own.

Pins: a topic, type, QoS, frame or unit other than docs/reference/topics.md says; pictures that the rig's reader cannot
decode; an arm that goes on moving when commands stop; parameters accepted and then failing at the reset; a reset that
does not give the scene asked for; an exit code other than 0 after a doubled Ctrl-C; a traceback for a missing rig file;
two cells in one domain, whose arms the guard takes for one.
"""

import dataclasses
import json
import signal

import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import Trigger

from robosteer_rig.environment import Scene
from robosteer_rig.images import decode_image, decode_raw
from robosteer_rig.rig import load_rig
from robosteer_sim.cell_model import CAMERAS
from robosteer_sim.layout import lay_out
from robosteer_sim.panda import READY_POSITION

from .graph import DEADLINE_S, Graph, start

IMAGE = "/{}/zed_node/rgb/color/rect/image"
INFO = "/{}/zed_node/rgb/color/rect/camera_info"
COMMANDS = "/joint_velocity_controller/commands"


@pytest.fixture(scope="module")
def graph():
    found = Graph()
    yield found
    found.close()


@pytest.fixture(scope="module")
def cell(graph, rig_path):
    process = start("cell", f"rig:={rig_path}", "grid_cell:=12")
    graph.collect(String, "/cell/state", 1)
    yield process
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, problems = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, problems
    assert "Traceback" not in problems


def state(graph):
    return json.loads(graph.collect(String, "/cell/state", 1)[0].data)


def set_parameter(graph, name, value):
    request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
    return graph.call(SetParameters, "/cell/set_parameters", request).results[0]


def stamps(messages):
    return np.array([m.header.stamp.sec + m.header.stamp.nanosec * 1e-9 for m in messages])


@pytest.mark.usefixtures("cell")
def test_topics_types_and_qos_are_the_documented_ones(graph):
    expected = {
        "/joint_states": "sensor_msgs/msg/JointState",
        "/gripper/joint_states": "sensor_msgs/msg/JointState",
        "/cell/state": "std_msgs/msg/String",
        COMMANDS: "std_msgs/msg/Float64MultiArray",
        "/gripper/command": "std_msgs/msg/Float64",
    }
    for name in CAMERAS:
        expected[IMAGE.format(name)] = "sensor_msgs/msg/Image"
        expected[IMAGE.format(name) + "/compressed"] = "sensor_msgs/msg/CompressedImage"
        expected[INFO.format(name)] = "sensor_msgs/msg/CameraInfo"
    graph.until(lambda: expected.keys() <= dict(graph.node.get_topic_names_and_types()).keys(), "all topics")
    found = dict(graph.node.get_topic_names_and_types())
    assert {name: found[name] for name in expected} == {name: [kind] for name, kind in expected.items()}
    assert "/clock" not in found
    for name in expected.keys() - {COMMANDS, "/gripper/command"}:
        (publisher,) = graph.node.get_publishers_info_by_topic(name)
        assert publisher.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    (commands,) = graph.node.get_subscriptions_info_by_topic(COMMANDS)
    assert commands.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT


@pytest.mark.usefixtures("cell")
def test_joint_states_come_at_their_rates_with_names_and_units(graph, rig):
    joints = graph.collect(JointState, "/joint_states", 60)
    assert all(tuple(message.name) == rig.arm.joints for message in joints)
    assert all(len(m.position) == len(m.velocity) == len(m.effort) == 7 for m in joints)
    # A busy machine may be slower than the nominal rate (test_live.py pins the rates), never faster.
    assert np.mean(np.diff(stamps(joints))) > 0.0095
    assert np.all(np.diff(stamps(joints)) > 0)
    now = graph.node.get_clock().now().nanoseconds * 1e-9
    assert -0.001 < now - stamps(joints)[-1] < 30
    grippers = graph.collect(JointState, rig.gripper.state_topic, 20)
    assert all(list(message.name) == [rig.gripper.state_joint] for message in grippers)
    assert rig.gripper.normalise(grippers[-1].position[0]) < 0.02
    assert np.mean(np.diff(stamps(grippers))) > 0.031


@pytest.mark.usefixtures("cell")
@pytest.mark.parametrize("name", ["wrist", "left", "right"])
def test_pictures_and_intrinsics(graph, rig, name):
    camera = rig.cameras[name]
    compressed = graph.collect(CompressedImage, camera.topic, 8)
    assert np.mean(np.diff(stamps(compressed))) > 0.055
    assert compressed[-1].header.frame_id == f"{name}_left_camera_frame_optical"
    picture = decode_image(compressed[-1].data, compressed[-1].format)
    assert picture.shape == (180, 320, 3)
    (raw,) = graph.collect(Image, IMAGE.format(name), 1)
    assert (raw.encoding, raw.width, raw.height, raw.step) == ("bgra8", 320, 180, 1280)
    exact = decode_raw(raw.data, raw.encoding, raw.width, raw.height, raw.step)
    assert np.abs(exact.astype(int) - picture).mean() < 4.0
    (info,) = graph.collect(CameraInfo, INFO.format(name), 1)
    focal = CAMERAS[name].focal_length_px(180)
    assert np.allclose(info.k, [focal, 0, 159.5, 0, focal, 89.5, 0, 0, 1])
    assert np.allclose(np.reshape(info.p, (3, 4))[:, :3], np.reshape(info.k, (3, 3)))
    assert (info.width, info.height) == (320, 180)


@pytest.mark.usefixtures("cell")
def test_the_arm_obeys_and_comes_to_rest_when_commands_stop(graph):
    publisher = graph.node.create_publisher(Float64MultiArray, COMMANDS, 10)
    grip = graph.node.create_publisher(Float64, "/gripper/command", 10)
    latest = []
    subscription = graph.node.create_subscription(JointState, "/joint_states", latest.append, 10)
    timeouts = state(graph)["counters"]["command_timeouts"]
    timer = graph.node.create_timer(0.02, lambda: publisher.publish(Float64MultiArray(data=[0.0] * 6 + [0.8])))
    graph.until(lambda: latest and latest[-1].velocity[6] > 0.6, "motion")
    start_position = latest[-1].position[6]
    graph.until(lambda: latest[-1].position[6] > start_position + 0.2, "travel")
    graph.node.destroy_timer(timer)
    graph.until(lambda: max(map(abs, latest[-1].velocity)) < 0.01, "rest")
    assert state(graph)["counters"]["command_timeouts"] > timeouts
    rejected = state(graph)["counters"]["rejected_commands"]
    publisher.publish(Float64MultiArray(data=[0.5] * 3))
    graph.until(lambda: state(graph)["counters"]["rejected_commands"] > rejected, "the count of bad commands")
    grip.publish(Float64(data=1.0))
    closed = graph.collect(JointState, "/gripper/joint_states", 1)
    graph.until(
        lambda: graph.collect(JointState, "/gripper/joint_states", 1)[0].position[0] > 0.75, f"closing from {closed}"
    )
    graph.node.destroy_subscription(subscription)
    graph.node.destroy_publisher(publisher)
    graph.node.destroy_publisher(grip)


@pytest.mark.usefixtures("cell")
def test_a_reset_gives_the_scene_asked_for(graph):
    for name, value in (("task", "pick up blue cube"), ("grid_cell", 30), ("seed", 8)):
        assert set_parameter(graph, name, value).successful
    before = state(graph)
    answer = graph.call(Trigger, "/cell/reset", Trigger.Request())
    assert answer.success
    found = json.loads(answer.message)
    assert found["reset_count"] == before["reset_count"] + 1
    assert (found["task"], found["grid_cell"], found["seed"]) == ("pick up blue cube", 30, 8)
    for placed in lay_out(Scene("pick up blue cube", 30, 8)):
        assert found["object_positions"][placed.name][:2] == pytest.approx(placed.position, abs=1e-4)
    assert found["schema"] == "robosteer.cell/1"
    assert found["success"] is False
    graph.until(lambda: state(graph)["reset_count"] == found["reset_count"], "the new scene's state")
    joints = graph.collect(JointState, "/joint_states", 1)[0]
    assert np.allclose(joints.position, READY_POSITION, atol=1e-3)


@pytest.mark.usefixtures("cell")
@pytest.mark.parametrize(
    ("name", "value"), [("task", "make tea"), ("grid_cell", 40), ("seed", -1), ("variation", "fog")]
)
def test_a_parameter_that_makes_no_scene_is_refused(graph, name, value):
    result = set_parameter(graph, name, value)
    assert not result.successful
    assert name in result.reason or "range" in result.reason


def test_a_second_cell_refuses_and_the_first_goes_on(graph, cell, rig_path):
    other = start("cell", f"rig:={rig_path}")
    _, problems = other.communicate(timeout=DEADLINE_S)
    assert other.returncode == 1
    assert problems.startswith("/joint_states: found node cell publishing it already, expected nobody; stop it")
    assert len(problems.strip().splitlines()) == 1
    assert cell.poll() is None
    assert len(graph.node.get_publishers_info_by_topic("/joint_states")) == 1


def test_the_cells_own_clock_can_be_published(graph, rig_path, tmp_path):
    rig = load_rig(rig_path)
    elsewhere = dataclasses.replace(rig, arm=dataclasses.replace(rig.arm, state_topic="/elsewhere/joint_states"))
    (tmp_path / "rig.yaml").write_text(elsewhere.to_yaml())
    other = start("cell", f"rig:={tmp_path / 'rig.yaml'}", "publish_clock:=true")
    try:
        clocks = [c.clock.sec + c.clock.nanosec * 1e-9 for c in graph.collect(Clock, "/clock", 20)]
        assert clocks[0] < 600
        assert np.all(np.diff(clocks) > 0)
    finally:
        other.send_signal(signal.SIGTERM)
        _, problems = other.communicate(timeout=DEADLINE_S)
    assert other.returncode == 0, problems


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ([], "parameter rig: found none"),
        (["rig:=/nowhere/rig.yaml"], "rig /nowhere/rig.yaml: found no such file"),
        (["rig:=a.yaml", "seed:=1.5"], "parameter: Trying to set parameter 'seed' to '1.5' of type 'DOUBLE'"),
        (["rig:=a.yaml", "grid_cell:=40"], "parameter: Invalid parameter value (40)"),
        (["rig"], "ROS: cannot start (failed to initialize rcl: Couldn't parse parameter override rule: '-p rig'"),
    ],
    ids=["none", "missing", "type", "range", "syntax"],
)
def test_a_wrong_parameter_is_one_line(parameters, message):
    process = start("cell", *parameters)
    _, problems = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    (line,) = [line for line in problems.splitlines() if "[rcl]" not in line]  # ROS has words of its own.
    assert line.startswith(message)
