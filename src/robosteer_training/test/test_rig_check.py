"""`robosteer rig check`, on recordings and on a live graph; and one recording through both ways.

Regressions pinned: a swapped gripper polarity, degrees for radians, another resolution, a best-effort joint state or a
second publisher passes unnoticed; frames made live from topics differ from those that the converter makes of a
recording of the same messages.
"""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robosteer_rig.bag_check import check_bag
from robosteer_rig.rig_command import main

from .synthetic_bag import (
    EPOCH_NS,
    FLOAT,
    MS,
    Script,
    bench_rig,
    joint_state,
    jpeg_message,
    messages,
    picture,
    write_bag,
)

RIG = bench_rig()
NAMES = RIG.arm.joints
LONG = Script(seconds=3.0, stop_s=2.5)


def recording(path, change=lambda *item: item):
    items = [item for item in (change(*item) for item in messages(RIG, LONG)) if item is not None]
    return write_bag(path, items)


def gripper_follows(direction):
    """The gripper closes (or opens) a third of a second after the command."""

    def change(log, topic, kind, message):
        if topic == "/gripper/joint_states":
            closed = log > EPOCH_NS + 1100 * MS
            message = joint_state(log, [RIG.gripper.state_joint], [0.8 * (closed if direction > 0 else not closed)])
        return log, topic, kind, message

    return change


def verdicts(path, rig=RIG):
    return {(row.stream, row.what): row for row in check_bag(rig, path).rows()}


def test_a_sound_recording_passes(tmp_path, capsys):
    path = recording(tmp_path / "bag", gripper_follows(1))
    found = verdicts(path)
    assert not [row for row in found.values() if row.verdict == "bad"]
    assert found["gripper_state", "polarity"].verdict == "ok"
    assert found["joint_state", "rate"].found == "100.0 Hz"
    assert "matched by name" in found["joint_state", "joint order"].found
    rig_file = tmp_path / "rig.yaml"
    rig_file.write_text(RIG.to_yaml())
    assert main(["check", str(rig_file), "--bag", str(path)]) == 0
    assert "everything fits" in capsys.readouterr().out
    assert main(["check", str(rig_file), "--bag", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bad"] == 0
    assert main(["show", str(rig_file)]) == 0
    assert RIG.digest() in capsys.readouterr().out


def swap(topic_wanted, make):
    return lambda log, topic, kind, message: (
        log,
        topic,
        kind,
        make(log, message) if topic == topic_wanted else message,
    )


def every(n, wanted):
    """Only one of n messages of a topic."""
    return lambda log, topic, *rest: None if topic == wanted and (log // MS // 10) % n else (log, topic, *rest)


@pytest.mark.parametrize(
    ("change", "stream", "what", "found"),
    [
        (gripper_follows(-1), "gripper_state", "polarity", "1 the other way"),
        (swap("/joint_states", lambda t, m: joint_state(t, NAMES, [90.0] * 7)), "joint_state", "position", "j1 at 90"),
        (swap("/joint_states", lambda t, m: joint_state(t, NAMES[1:], [0.0] * 6)), "joint_state", "joints", "no j1"),
        (
            swap("/gripper/joint_states", lambda t, m: joint_state(t, ["knuckle"], [80.0])),
            "gripper_state",
            "range",
            "80",
        ),
        (swap("/wrist/compressed", lambda t, m: jpeg_message(t, picture(0, 64, 40))), "wrist", "image", "64x40"),
        (swap("/left/image", lambda t, m: dataclasses.replace(m, encoding="rgb8")), "left", "image", "rgb8"),
        (swap("/wrist/compressed", lambda t, m: jpeg_message(t, picture(0))), "wrist", "image", "same picture"),
        (swap("/robosteer/teleop/gripper", lambda t, m: FLOAT(100.0)), "gripper_command", "range", "100"),
        (every(3, "/joint_states"), "joint_state", "rate", "33.3 Hz"),
        (lambda log, topic, *rest: None if topic == "/left/image" else (log, topic, *rest), "left", "topic", "nobody"),
        (
            swap("/joint_states", lambda t, m: joint_state(t + 2 * 10**9, NAMES, [0.0] * 7)),
            "joint_state",
            "clock",
            "2.00 s ahead of",
        ),
    ],
)
def test_every_breach_is_found(tmp_path, change, stream, what, found):
    row = verdicts(recording(tmp_path / "bag", change))[stream, what]
    assert row.verdict == "bad"
    assert found in row.found


def test_another_type_is_a_breach(tmp_path):
    path = recording(tmp_path / "bag")
    camera = dataclasses.replace(RIG.cameras["left"], type="sensor_msgs/msg/CompressedImage", encoding="jpeg")
    rig = dataclasses.replace(RIG, cameras={**RIG.cameras, "left": camera})
    row = verdicts(path, rig)["left", "type"]
    assert (row.verdict, row.found) == ("bad", "sensor_msgs/msg/Image")


# The live half: one child plays a recording through real topics, another listens.

CHILDREN = Path(__file__).parent / "children"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return {
        **os.environ,
        "ROS_DOMAIN_ID": str(os.getpid() % 100 + 1),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOG_DIR": str(tmp_path_factory.mktemp("ros_log")),
    }


def run(environment, name, *arguments):
    command = [sys.executable, str(CHILDREN / name), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_frames_from_live_topics_equal_those_of_the_converter(tmp_path, environment):
    """Real DDS, every camera encoding; the listener aligns, the converter aligns, not a bit may differ."""
    from robosteer_training.convert import convert_bags
    from robosteer_training.convert_episode import ConvertSettings

    path = recording(tmp_path / "bag")
    (tmp_path / "rig.yaml").write_text(RIG.to_yaml())
    settings = ConvertSettings(trim_idle=False, instruction="x")
    data = convert_bags(path, tmp_path / "out", RIG, settings=settings)
    player = run(environment, "listen_and_play.py", tmp_path / "rig.yaml", path, tmp_path / "live.npz")
    output, _ = player.communicate(timeout=120)
    assert player.returncode == 0, output
    live = np.load(tmp_path / "live.npz")
    count = len(data)
    assert count >= 40
    assert live["stamp_ns"][:count].tolist() == data.stamp_ns.tolist()
    assert np.array_equal(live["state"][:count], data.state)
    assert np.array_equal(live["joint_velocity"][:count], data.joint_velocity)
    for name, images in data.images.items():
        assert np.array_equal(live[name][:count], np.asarray(images))


def test_check_of_a_live_graph(tmp_path, environment, capsys):
    """A robot whose joint state is best effort and whose gripper has two publishers; everything else fits."""
    (tmp_path / "rig.yaml").write_text(RIG.to_yaml())
    robot = run(environment, "faulty_robot.py", tmp_path / "rig.yaml")
    try:
        assert robot.stdout.readline() == "ready\n"
        command = [sys.executable, "-m", "robosteer_bringup.cli", "rig", "check", str(tmp_path / "rig.yaml"), "--json"]
        result = subprocess.run(
            [*command, "--seconds", "4"], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
    finally:
        robot.communicate(input="stop\n", timeout=30)
    assert result.returncode == 1, result.stderr
    rows = {(row["stream"], row["what"]): row for row in json.loads(result.stdout)["rows"]}
    assert rows["joint_state", "qos"]["verdict"] == "bad"
    assert rows["gripper_state", "publishers"]["found"] == "2"
    assert rows["wrist", "type"]["verdict"] == "ok"
    assert rows["wrist", "image"]["verdict"] == "ok"
    assert rows["left", "topic"]["verdict"] == "bad"
    assert rows["arm_command", "topic"]["verdict"] == "note"
