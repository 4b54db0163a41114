"""From recordings to a dataset.

Regressions pinned: live and offline frames differ; point samples instead of interval means; swapped cameras are
converted without a word; one damaged episode stops the others; an episode is converted twice, or not again after its
label or the settings changed; Ctrl-C leaves half an episode behind.
"""

import array
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from robosteer_rig.align import Aligner
from robosteer_rig.bags import BagReader
from robosteer_rig.droid import observation, observation_from_row
from robosteer_rig.errors import RobosteerError
from robosteer_training.commands import convert as command
from robosteer_training.convert import ConversionError, Summary, convert_bags
from robosteer_training.convert_episode import ConvertSettings
from robosteer_training.dataset import load_dataset

from .synthetic_bag import (
    EPOCH_NS,
    MS,
    STORE,
    Script,
    bench_rig,
    joint_state,
    jpeg_message,
    messages,
    picture,
    write_bag,
    write_episode,
)

RIG = bench_rig()


def as_rclpy(message):
    """The same message with the containers that rclpy uses: lists, array.array, nested objects."""
    fields = {}
    for name in message.__dataclass_fields__:
        if name == "__msgtype__":
            continue
        value = getattr(message, name)
        if isinstance(value, np.ndarray):
            value = array.array("B" if value.dtype == np.uint8 else "d", value.tobytes())
        elif hasattr(value, "__dataclass_fields__"):
            value = as_rclpy(value)
        fields[name] = value
    return SimpleNamespace(**fields)


def test_live_and_offline_frames_are_equal_bit_for_bit(tmp_path):
    path = write_episode(tmp_path / "e", RIG)
    data = convert_bags(path, tmp_path / "out", RIG, settings=ConvertSettings(trim_idle=False))
    aligner = Aligner(RIG)
    streams = {topic: name for name, (topic, _) in RIG.observation_topics().items()}
    live = []
    with BagReader(path) as bag:
        for topic, log_ns, message in bag.messages(list(streams)):
            aligner.receive(streams[topic], as_rclpy(message), log_ns)
            live += aligner.ready()
    live += aligner.flush()
    assert len(data) >= 20
    assert len(live) - len(data) in (0, 1)  # the last interval may reach beyond the recording
    for k, frame in enumerate(live[: len(data)]):
        assert frame.stamp_ns == data.stamp_ns[k]
        images = {name: stack[k] for name, stack in data.images.items()}
        offline = observation_from_row(images, data.state[k], data.rig, data.prompts[0])
        online = observation(frame, RIG, "pick up red cube")
        assert offline.keys() == online.keys()
        for key, value in online.items():
            assert np.array_equal(offline[key], value)
            assert getattr(offline[key], "dtype", None) == getattr(value, "dtype", None)
        assert np.array_equal(frame.joint_velocity.astype(np.float32), data.joint_velocity[k])


def test_frames_and_actions_are_what_happened(tmp_path):
    script = Script(seconds=1.5, velocity=0.6, start_s=0.3, stop_s=1.2)
    path = write_episode(tmp_path / "e", RIG, script)
    data = convert_bags(path, tmp_path / "out", RIG)
    moved = data.actions[:, 0].sum() * 3.0 / 15
    # The first frame is at 16 ms, the interval of the first and last kept frames holds rest and motion.
    assert moved == pytest.approx(0.6 * 0.9, abs=1e-6)
    assert data.actions[:, 0].max() == pytest.approx(0.2)
    assert (data.actions[:, 1:7] == 0).all()
    assert set(data.actions[:, 7]) == {0.0, 1.0}
    closed_from = data.stamp_ns[np.argmax(data.actions[:, 7])]
    assert 0 <= EPOCH_NS + 828 * MS - closed_from <= 67 * MS  # in the interval in which the command came
    for k, stamp in enumerate(data.stamp_ns):
        i = (stamp - EPOCH_NS) // (10 * MS)
        assert data.state[k, :7] == pytest.approx([0.1 * j + 0.001 * i for j in range(7)], abs=1e-6)
        left = (stamp - EPOCH_NS - 16 * MS) // (66 * MS)
        expected = picture(int(left) + 40)[:, 6:26]
        assert np.abs(data.images["left"][k].astype(int).mean() - expected.mean()) < 1
    assert data.state[:, 7] == pytest.approx(0.25)
    assert data.episodes[0].trimmed[0] > 0
    assert data.episodes[0].max_age_s["joint_state"] < 0.010


def test_other_rates_keep_the_unit(tmp_path):
    path = write_episode(tmp_path / "e", RIG)
    settings = ConvertSettings(rate_hz=6.0, cameras=("left",))
    data = convert_bags(path, tmp_path / "out", RIG, settings=settings)
    assert data.rate_hz == 6.0
    assert np.diff(data.stamp_ns) == pytest.approx(1e9 / 6, abs=1)
    assert data.actions[:, 0].sum() * 3.0 / 6 == pytest.approx(0.54, abs=1e-6)
    assert data.actions[:, 0].max() == pytest.approx(0.2)
    assert list(data.images) == ["left"]


def test_per_step_actions_say_so_wherever_they_go(tmp_path):
    """Pins: at 6 Hz the paper's u moves 0.2 rad per step, 1.2 rad/s; read as 3 rad/s the arm is 2.5 times too fast."""
    path = write_episode(tmp_path / "e", RIG)
    as_speed = convert_bags(path, tmp_path / "one", RIG, settings=ConvertSettings(rate_hz=6.0))
    as_step = convert_bags(path, tmp_path / "two", RIG, settings=ConvertSettings(rate_hz=6.0, action_unit="per_step"))
    assert (as_speed.rig.action.unit_rad_per_s, as_speed.rig.action.rate_hz) == (3.0, 6.0)
    assert (as_step.rig.action.unit_rad_per_s, as_step.rig.action.rate_hz) == (pytest.approx(1.2), 6.0)
    assert as_step.actions[:, :7] == pytest.approx(2.5 * as_speed.actions[:, :7], abs=1e-6)
    assert as_step.actions[:, 0].sum() * 0.2 == pytest.approx(0.54, abs=1e-6)


def with_positions(log, topic, kind, message):
    """Commands that carry the target, 0.05 rad ahead of where joint 1 is."""
    if topic == "/robosteer/teleop/command":
        t = (log - EPOCH_NS) / 1e9
        target = [0.1 * j + 0.1 * t + (0.05 if j == 0 else 0.0) for j in range(7)]
        message = joint_state(log, NAMES, target, message.velocity)
    return log, topic, kind, message


def test_action_sources(tmp_path):
    path = changed(tmp_path / "e", with_positions)
    sources = {}
    for source in ("commanded", "measured", "target", "controller"):
        settings = ConvertSettings(actions=source, trim_idle=False)
        sources[source] = convert_bags(path, tmp_path / source, RIG, settings=settings)
    assert len({data.digest() for data in sources.values()}) == 4
    step = RIG.action.unit_rad_per_s / RIG.action.rate_hz
    measured = sources["measured"]
    assert measured.actions[:-1, :7] * step == pytest.approx(np.diff(measured.state[:, :7], axis=0), abs=1e-6)
    assert measured.episodes[0].replay["open_loop_max_m"] < 1e-5
    # 0.1 rad/s of motion within the interval and 0.05 rad of lead; the state's age adds a little.
    assert sources["target"].actions[5:, 0] * step == pytest.approx(0.05 + 0.1 / 15, abs=0.004)
    assert 0 < np.abs(sources["controller"].actions[5:, 0]).max() < np.abs(sources["target"].actions[5:, 0]).max()
    for data in sources.values():
        assert set(data.episodes[0].replay) == {
            f"{a}_{b}_m" for a in ("one_step", "open_loop") for b in ("median", "max")
        }


def test_targets_must_have_been_recorded(tmp_path):
    path = write_episode(tmp_path / "e", RIG)
    with pytest.raises(ConversionError, match=r"without a finite position for each of j1.*--actions commanded"):
        convert_bags(path, tmp_path / "out", RIG, settings=ConvertSettings(actions="target"))


def test_nothing_is_converted_twice_and_everything_that_changed_again(tmp_path):
    path = write_episode(tmp_path / "demos" / "000000", RIG)

    def run(**options):
        summary = Summary()
        data = convert_bags(tmp_path / "demos", tmp_path / "out", summary=summary, **options)
        return summary.converted, summary.reused, data

    assert run()[:2] == (1, 0)
    assert run()[:2] == (0, 1)
    assert run(settings=ConvertSettings(rate_hz=10.0))[:2] == (1, 0)
    larger = dataclasses.replace(RIG.cameras["left"], output_size=20)
    bigger = dataclasses.replace(RIG, cameras={**RIG.cameras, "left": larger})
    converted, _, data = run(rig=bigger)
    assert converted == 1
    assert data.images["left"].shape[1:] == (20, 20, 3)
    label = json.loads((path / "episode.json").read_text())
    (path / "episode.json").write_text(json.dumps({**label, "instruction": "pick up green cube"}))
    converted, _, data = run()
    assert (converted, data.prompts) == (1, ("pick up green cube",))
    whole = tmp_path / "out" / "episodes" / data.episodes[0].key
    (whole / "images_left.npy").write_bytes(b"")
    assert run()[:2] == (1, 0)  # a damaged entry is replaced
    shutil.move(tmp_path / "demos", tmp_path / "moved")
    summary = Summary()
    convert_bags(tmp_path / "moved", tmp_path / "out", summary=summary)
    assert summary.reused == 1


def test_damaged_episodes_are_named_and_the_others_converted(tmp_path):
    for i in range(3):
        write_episode(tmp_path / "demos" / f"{i:06d}", RIG, Script(seed=i))
    bad = tmp_path / "demos" / "000001" / "000001.mcap"
    bad.write_bytes(bad.read_bytes()[:-2000])
    (tmp_path / "demos" / "000003").mkdir()
    (tmp_path / "demos" / "000003" / "000003.mcap").touch()
    with pytest.raises(ConversionError) as caught:
        convert_bags(tmp_path / "demos", tmp_path / "out")
    assert "found 2 damaged episodes" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [Path(line.split(":")[0]).name for line in caught.value.failures] == ["000003", "000001"]
    assert not (tmp_path / "out" / "dataset.json").exists()
    summary = Summary()
    data = convert_bags(tmp_path / "demos", tmp_path / "out", skip_bad=True, summary=summary)
    assert (summary.reused, summary.converted, len(summary.failures)) == (2, 0, 2)
    assert [Path(e.source).name for e in data.episodes] == ["000000", "000002"]


def test_outcomes_choose_episodes(tmp_path):
    for i, outcome in enumerate(("success", "failure", "recovered")):
        write_episode(tmp_path / f"{i:06d}", RIG, Script(seed=i), outcome=outcome)
    summary = Summary()
    assert len(convert_bags(tmp_path, tmp_path / "out", summary=summary).episodes) == 1
    assert summary.skipped == 2
    both = convert_bags(tmp_path, tmp_path / "out", outcomes=("success", "failure"))
    assert [e.outcome for e in both.episodes] == ["success", "failure"]
    with pytest.raises(RobosteerError, match="found 3 episodes and none to convert"):
        convert_bags(tmp_path, tmp_path / "out", outcomes=("discarded",))


def changed(path, change):
    """An episode whose messages went through `change(log_ns, topic, kind, message) -> item | None`."""
    items = [item for item in (change(*item) for item in messages(RIG, Script())) if item is not None]
    write_bag(path, items)
    label = {"schema": "robosteer.episode/1", "instruction": "x", "outcome": "success"}
    (path / "episode.json").write_text(json.dumps(label))
    return path


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


def test_processes_give_the_same_dataset(tmp_path):
    for i in range(3):
        write_episode(tmp_path / "demos" / f"{i:06d}", RIG, Script(seed=i))
    write_bag(tmp_path / "demos" / "000003", messages(RIG, Script()))
    one = convert_bags(tmp_path / "demos", tmp_path / "one", skip_bad=True)
    summary = Summary()
    two = convert_bags(tmp_path / "demos", tmp_path / "two", jobs=2, skip_bad=True, summary=summary)
    assert two.digest() == one.digest()
    assert np.array_equal(np.asarray(two.images["left"]), np.asarray(one.images["left"]))
    assert "found no instruction" in summary.failures[0]


def test_command_reports_and_raises(tmp_path, capsys):
    write_episode(tmp_path / "demos" / "000000", RIG)
    arguments = ["--bag", str(tmp_path / "demos"), "--out", str(tmp_path / "out"), "--jobs", "1"]
    assert command.main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["episodes"] == report["converted"] == 1
    assert report["frames"] == len(load_dataset(tmp_path / "out"))
    assert command.main(arguments) == 0
    assert "1 episodes" in capsys.readouterr().out
    write_bag(tmp_path / "demos" / "000001", messages(RIG, Script()))
    with pytest.raises(RobosteerError, match="found 1 damaged episodes"):
        command.main(arguments)
    assert "damaged: " in capsys.readouterr().err
    with pytest.raises(RobosteerError, match="--rate-hz: found -1"):
        command.main([*arguments, "--rate-hz", "-1"])


INTERRUPTED = """
import sys
from robosteer_training.convert import convert_bags
if __name__ == "__main__":
    try:
        convert_bags(sys.argv[1], sys.argv[2], jobs=2)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def test_interruption_leaves_only_whole_episodes(tmp_path):
    for i in range(3):
        write_episode(tmp_path / "demos" / f"{i:06d}", RIG, Script(seconds=4.0, stop_s=3.5, seed=i))
    (tmp_path / "run.py").write_text(INTERRUPTED)
    arguments = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "demos"), str(tmp_path / "out")]
    process = subprocess.Popen(arguments, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").glob("episodes/*.partial")) and process.poll() is None:
        assert time.monotonic() < deadline
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) in (130, 0)
    left = [p.name for p in (tmp_path / "out").glob("episodes/*")]
    assert not [name for name in left if name.endswith(".partial")]
    assert (process.returncode == 0) == (tmp_path / "out" / "dataset.json").exists()
    summary = Summary()
    convert_bags(tmp_path / "demos", tmp_path / "out", summary=summary)
    assert (summary.reused, summary.converted) == (len(left), 3 - len(left))
