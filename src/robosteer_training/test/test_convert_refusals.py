"""Recordings that would mislead, and those that only look strange.

Regressions pinned: swapped cameras, jumping clocks, gaps and other units that are converted without a word; a recording
refused because its log was written on another clock than its stamps.
"""

import dataclasses

import numpy as np
import pytest

from robosteer_rig.errors import RobosteerError
from robosteer_training.convert import ConversionError, convert_bags
from robosteer_training.convert_episode import ConvertSettings

from .synthetic_bag import (
    EPOCH_NS,
    MS,
    STORE,
    Script,
    bench_rig,
    changed,
    joint_state,
    jpeg_message,
    messages,
    picture,
    write_bag,
    write_episode,
)

RIG = bench_rig()


def shifted(after_ms, jump_s):
    def change(log, topic, kind, message):
        if topic == "/joint_states" and log > EPOCH_NS + after_ms * MS:
            stamp = message.header.stamp
            stamp = dataclasses.replace(stamp, sec=stamp.sec + jump_s)
            message = dataclasses.replace(message, header=dataclasses.replace(message.header, stamp=stamp))
        return log, topic, kind, message

    return change


def later(wanted, seconds):
    """The computer behind one topic has a clock of its own: its stamps are early or late by some seconds."""
    return lambda log, topic, *rest: (log + int(seconds * 1e9) * (topic == wanted), topic, *rest)


def replaced(wanted, make):
    def change(log, topic, kind, message):
        return (log, topic, kind, make(log, message)) if topic == wanted else (log, topic, kind, message)

    return change


def dropped(wanted, after_ms=-1):
    return lambda log, topic, *rest: None if topic == wanted and log > EPOCH_NS + after_ms * MS else (log, topic, *rest)


def at_rest(log, topic, kind, message):
    if topic == "/robosteer/teleop/command":
        message = joint_state(log, NAMES, velocity=[0.0] * 7)
    return log, topic, kind, FLOAT(0.0) if topic == "/robosteer/teleop/gripper" else message


NAMES = RIG.arm.joints


FLOAT = STORE.types["std_msgs/msg/Float64"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (dropped("/left/image"), "topic /left/image (left): found no such topic, expected sensor_msgs/msg/Image"),
        (dropped("/robosteer/teleop/command"), "topic /robosteer/teleop/command (arm_command): found no such topic"),
        (dropped("/wrist/compressed", 400), "stale inputs (wrist: up to"),
        (shifted(500, -3600), "topic /joint_states: found 1 clock jumps"),
        (shifted(500, 3600), "topic /joint_states: found 1 clock jumps"),
        (replaced("/joint_states", lambda t, m: joint_state(t, NAMES[1:], [0.0] * 6)), "without the rig's joints"),
        (
            replaced("/joint_states", lambda t, m: joint_state(t, NAMES, [float("nan")] * 7)),
            "topic /joint_states: found 150 of 150 messages damaged",
        ),
        (
            replaced("/gripper/joint_states", lambda t, m: joint_state(t, ["finger"], [0.0])),
            "topic /gripper/joint_states: found 45 of 45 messages",
        ),
        (
            replaced("/wrist/compressed", lambda t, m: jpeg_message(t, picture(0, 64, 40))),
            "topic /wrist/compressed: image size: found 64x40, expected 32x20",
        ),
        (
            replaced("/left/image", lambda t, m: dataclasses.replace(m, encoding="rgb8")),
            "topic /left/image: image encoding: found 'rgb8', expected bgra8",
        ),
        (
            replaced("/left/image", lambda t, m: dataclasses.replace(m, width=100_000, height=100_000)),
            "topic /left/image: image size: found 100000x100000, expected 32x20",
        ),
        (
            replaced("/wrist/compressed", lambda t, m: dataclasses.replace(m, format="h264")),
            "topic /wrist/compressed: image format: found 'h264', expected jpeg or png",
        ),
        (
            replaced("/wrist/compressed", lambda t, m: dataclasses.replace(m, data=m.data[:80])),
            "topic /wrist/compressed: image: found damaged JPEG data",
        ),
        (
            replaced("/robosteer/teleop/gripper", lambda t, m: FLOAT(40.0)),
            "found gripper command 40, expected 0 (open)",
        ),
        (replaced("/robosteer/teleop/gripper", lambda t, m: FLOAT(float("nan"))), "found gripper command nan"),
        (
            replaced("/robosteer/teleop/command", lambda t, m: joint_state(t, NAMES, [0.0] * 7)),
            "found a command without a finite velocity",
        ),
        (
            replaced("/joint_states", lambda t, m: joint_state(t, NAMES, [20.0] * 7)),
            "found j1 at 20 rad, expected -3.2 ... 3.2; are these degrees",
        ),
        (
            replaced("/robosteer/teleop/command", lambda t, m: joint_state(t, NAMES, velocity=[30.0] * 7)),
            "found j1 commanded to move at 30 rad/s, expected -20 ... 20",
        ),
        (at_rest, "found no motion command"),
        (lambda log, *rest: (log, *rest) if log < EPOCH_NS + 70 * MS else None, "frames, expected at least 2"),
        (later("/robosteer/teleop/command", 0.8), "the clocks of /joint_states and /robosteer/teleop/command"),
        (later("/left/image", -0.8), "the clocks of /left/image and /"),
    ],
)
def test_a_recording_that_would_mislead_is_refused(tmp_path, change, expected):
    path = changed(tmp_path / "e", change)
    with pytest.raises(ConversionError) as caught:
        convert_bags(path, tmp_path / "out", RIG)
    (line,) = caught.value.failures
    assert expected in line
    assert line.startswith(str(path))
    assert "\n" not in line
    assert not list((tmp_path / "out").glob("episodes/*"))


def test_log_times_on_another_clock_than_the_stamps_do_no_harm(tmp_path):
    """As with simulated time: the recorder logs wall-clock times, and half as fast."""

    def relogged(log, *rest):
        return 2 * log - EPOCH_NS + 10**15, *rest

    one = convert_bags(changed(tmp_path / "one", lambda *item: item), tmp_path / "out", RIG)
    two = convert_bags(changed(tmp_path / "two", relogged), tmp_path / "out", RIG)
    assert np.array_equal(one.stamp_ns, two.stamp_ns)
    assert np.array_equal(one.state, two.state)
    assert np.array_equal(one.actions[:, :7], two.actions[:, :7])
    assert np.abs(np.flatnonzero(np.diff(one.actions[:, 7])) - np.flatnonzero(np.diff(two.actions[:, 7]))) <= 1


def test_messages_without_stamps_and_of_other_joints_are_accepted(tmp_path):
    def unstamped(log, topic, kind, message):
        if hasattr(message, "header"):
            header = dataclasses.replace(
                message.header, stamp=dataclasses.replace(message.header.stamp, sec=0, nanosec=0)
            )
            message = dataclasses.replace(message, header=header)
        return log, topic, kind, message

    data = convert_bags(changed(tmp_path / "one", unstamped), tmp_path / "out", RIG)
    assert data.episodes[0].stream_counts["joint_state"]["unstamped"] == 150
    assert data.actions[:, 0].sum() * 3.0 / 15 == pytest.approx(0.54, abs=1e-6)

    def every_second(log, topic, kind, message):
        other = topic == "/joint_states" and log // (10 * MS) % 2
        return log, topic, kind, joint_state(log, ["finger"], [0.0]) if other else message

    data = convert_bags(changed(tmp_path / "two", every_second), tmp_path / "out", RIG)
    assert data.episodes[0].stream_counts["joint_state"]["foreign"] == 75


def test_swapped_cameras_and_other_units_are_refused(tmp_path):
    path = write_episode(tmp_path / "e", RIG)
    left, wrist = RIG.cameras["left"], RIG.cameras["wrist"]
    swapped = dataclasses.replace(RIG, cameras={"wrist": left, "left": wrist})
    with pytest.raises(ConversionError, match=r"cameras\.left\.encoding: found 'jpeg', expected 'bgra8' as recorded"):
        convert_bags(path, tmp_path / "out", swapped)
    per_step = dataclasses.replace(RIG, action=dataclasses.replace(RIG.action, unit_rad_per_s=1.2))
    with pytest.raises(ConversionError, match=r"action\.unit_rad_per_s: found 1\.2, expected 3\.0 as recorded"):
        convert_bags(path, tmp_path / "out", per_step)


def test_a_plain_bag_needs_a_rig_and_an_instruction(tmp_path):
    path = write_bag(tmp_path / "bag", messages(RIG, Script()))
    with pytest.raises(RobosteerError, match="found no recorded rig, expected one; pass --rig"):
        convert_bags(path, tmp_path / "out")
    with pytest.raises(RobosteerError, match="found no instruction"):
        convert_bags(path, tmp_path / "out", RIG)
    data = convert_bags(path, tmp_path / "out", RIG, settings=ConvertSettings(instruction="push"))
    assert data.prompts == ("push",)
    assert data.episodes[0].outcome == "unknown"
