"""The recorder without ROS.

Pins: what arrives before a start is in no episode, except the last latched message; refused commands change
nothing; a full disk while labelling leaves the episode in review; stopping the recorder loses nothing.
"""

import errno
import json
import time

import pytest
from rosbags.highlevel import AnyReader

from robosteer_teleop import store as store_module
from robosteer_teleop import write_behind
from robosteer_teleop.answer import Now
from robosteer_teleop.episode_record import read_episode_json
from robosteer_teleop.episodes import Command, Limits, State
from robosteer_teleop.session import RecordingSession
from robosteer_teleop.store import EpisodeStore
from robosteer_teleop.streams import StreamWatch
from robosteer_teleop.topics import RecordedTopic

TOPICS = (
    RecordedTopic("/camera", "sensor_msgs/msg/CompressedImage", needed=True, rate_hz=10.0, max_gap_s=0.35),
    RecordedTopic("/command", "std_msgs/msg/Float64", action=True),
    RecordedTopic("/status", "std_msgs/msg/Float64", latched=True),
)
T0 = 1_700_000_000_000_000_000
PLAIN = Limits(20.0, 0)


class Rehearsal:
    """A session whose clock the test moves."""

    def __init__(self, directory, rig, messages, limits=PLAIN, **options):
        self.messages = messages
        self.store = EpisodeStore(directory)
        self.session = RecordingSession(
            self.store, rig, TOPICS, limits=limits, stream_watch=StreamWatch(TOPICS), **options
        )
        self.seconds = 0.0
        self.frozen = False

    @property
    def now(self):
        return Now(T0 + round(self.seconds * 1e9), self.seconds)

    def run(self, seconds, mute=()):
        lines = []
        for _ in range(round(seconds * 10)):
            self.seconds += 0.1
            now = self.now
            if "/camera" not in mute:
                self.session.receive("/camera", now.wall_ns, self.messages.image(now.wall_ns, self.picture()), now)
            if "/command" not in mute:
                self.session.receive("/command", now.wall_ns, self.messages.float64(self.seconds), now)
            self.session.flush(now)
            lines += self.session.tick(now)
        return lines

    def picture(self):
        return b"frozen" if self.frozen else f"{self.seconds:.1f}".encode()

    def ask(self, command, instruction="pick up red cube"):
        return self.session.command(command, self.now, instruction=instruction)


@pytest.fixture
def rehearsal(tmp_path, rig, messages):
    rehearsal = Rehearsal(tmp_path / "demos", rig, messages)
    yield rehearsal
    rehearsal.store.close()


def test_an_episode_holds_what_arrived_while_recording(rehearsal, rig):
    rehearsal.session.receive("/status", T0 - 10**9, rehearsal.messages.float64(7.0), rehearsal.now)
    rehearsal.run(2.0)
    assert rehearsal.ask(Command.START).accepted
    assert rehearsal.run(3.0) == []
    assert rehearsal.ask(Command.STOP).state is State.REVIEW
    rehearsal.run(1.0)
    answer = rehearsal.ask(Command.KEEP)
    assert json.loads(json.dumps(answer.to_json()))["path"] == str(rehearsal.store.directory / "000000")
    content = read_episode_json(answer.path)
    counts = {name: topic["count"] for name, topic in content["topics"].items()}
    assert counts == {"/camera": 30, "/command": 30, "/status": 1}
    assert content["instruction"] == "pick up red cube"
    assert content["outcome"] == "success"
    assert content["duration_s"] == pytest.approx(3.0)
    assert content["rig"] == {"digest": rig.digest(), "yaml": rig.to_yaml()}
    assert content["action_convention"] == {
        "convention": "normalised_joint_velocity",
        "unit_rad_per_s": 3.0,
        "rate_hz": 15.0,
    }
    assert content["quality"] == {"degraded": False, "problems": [], "notes": []}
    with AnyReader([answer.path]) as reader:
        assert sum(1 for _ in reader.messages()) == 61


def test_a_silent_camera_refuses_the_start_and_is_named(rehearsal):
    rehearsal.run(2.0)
    rehearsal.run(2.0, mute=("/camera",))
    answer = rehearsal.ask(Command.START)
    assert not answer.accepted
    assert "/camera is silent for" in answer.reason
    assert rehearsal.session.status(rehearsal.now)["ready"] is False
    assert list(rehearsal.store.partial.iterdir()) == []


def test_a_camera_that_fails_while_recording_marks_the_episode(rehearsal):
    rehearsal.run(2.0)
    rehearsal.ask(Command.START)
    rehearsal.run(2.0)
    rehearsal.run(1.0, mute=("/camera",))
    rehearsal.run(0.2)
    status = rehearsal.session.status(rehearsal.now)
    assert status["degraded"]
    assert any("/camera had a gap of 1.1" in problem for problem in status["problems"])
    rehearsal.ask(Command.STOP)
    content = read_episode_json(rehearsal.ask(Command.KEEP_FAILURE).path)
    assert content["outcome"] == "failure"
    assert content["quality"]["degraded"]
    assert {"gap", "rate"} == {problem["kind"] for problem in content["quality"]["problems"]}


def test_a_camera_that_freezes_while_recording_marks_the_episode(rehearsal):
    rehearsal.run(2.0)
    rehearsal.ask(Command.START)
    rehearsal.run(1.0)
    rehearsal.frozen = True
    rehearsal.run(2.0)
    rehearsal.frozen = False
    rehearsal.run(1.0)
    rehearsal.ask(Command.STOP)
    (problem,) = read_episode_json(rehearsal.ask(Command.KEEP).path)["quality"]["problems"]
    assert (problem["topic"], problem["kind"], problem["found"]) == ("/camera", "frozen", pytest.approx(1.9))


def test_the_minutes_that_the_disk_takes_follow_from_what_arrives(rehearsal, monkeypatch):
    assert rehearsal.session.status(rehearsal.now)["disk_minutes"] is None
    rehearsal.run(3.0)
    message = len(rehearsal.messages.image(0, b"3.0")) + len(rehearsal.messages.float64(0.0))
    monkeypatch.setattr(rehearsal.store, "free_bytes", lambda: round(message * 10 * 60 * 7))
    assert rehearsal.session.status(rehearsal.now)["disk_minutes"] == pytest.approx(7.0, abs=0.2)


def test_discard_then_undo_then_keep(rehearsal):
    rehearsal.run(2.0)
    rehearsal.ask(Command.START)
    rehearsal.run(1.0)
    assert rehearsal.ask(Command.DISCARD).path == rehearsal.store.directory / "trash/000000"
    assert rehearsal.session.status(rehearsal.now)["discarded"] == 1
    assert rehearsal.ask(Command.UNDO_LAST).state is State.REVIEW
    answer = rehearsal.ask(Command.KEEP)
    assert read_episode_json(answer.path)["outcome"] == "success"
    assert not rehearsal.ask(Command.UNDO_LAST).accepted


def test_undo_ends_with_the_next_start(rehearsal):
    rehearsal.run(2.0)
    rehearsal.ask(Command.START)
    rehearsal.ask(Command.DISCARD)
    rehearsal.ask(Command.START)
    rehearsal.ask(Command.STOP)
    rehearsal.ask(Command.KEEP)
    assert not rehearsal.ask(Command.UNDO_LAST).accepted


def test_the_longest_allowed_time_ends_in_review(rehearsal):
    rehearsal.run(2.0)
    rehearsal.ask(Command.START)
    (line,) = rehearsal.run(25.0)
    assert "ended after 20 s" in line
    assert rehearsal.session.state is State.REVIEW
    content = read_episode_json(rehearsal.ask(Command.KEEP).path)
    assert content["duration_s"] == pytest.approx(19.9)
    assert content["quality"]["notes"] == ["ended after 20 s, the longest allowed"]


@pytest.mark.parametrize("stop_first", [False, True])
def test_stopping_the_recorder_keeps_the_data(rehearsal, stop_first):
    rehearsal.run(2.0)
    rehearsal.ask(Command.START)
    rehearsal.run(1.0)
    if stop_first:
        rehearsal.ask(Command.STOP)
    answer = rehearsal.session.shutdown(rehearsal.now)
    content = read_episode_json(answer.path)
    assert answer.path == rehearsal.store.directory / "000000"
    assert content["outcome"] == "recovered"
    assert content["topics"]["/camera"]["count"] == 10
    assert rehearsal.session.shutdown(rehearsal.now) is None


def test_full_disk_while_labelling_leaves_the_episode_in_review(rehearsal, monkeypatch):
    rehearsal.run(2.0)
    rehearsal.ask(Command.START)
    rehearsal.run(1.0)
    rehearsal.ask(Command.STOP)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "write_episode_json", full)
        answer = rehearsal.ask(Command.KEEP)
    assert not answer.accepted
    assert answer.state is State.REVIEW
    assert "episode 000000: found No space left on device" in answer.reason
    assert rehearsal.ask(Command.KEEP).accepted


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_failing_disk_ends_the_episode_with_one_line(rehearsal, monkeypatch, call):
    rehearsal.run(2.0)
    rehearsal.ask(Command.START)
    rehearsal.run(1.0)

    def full(*_):
        raise OSError(errno.EIO, "Input/output error")

    writer = rehearsal.session._take.writer
    deadline = time.monotonic() + 30.0
    while writer.path.stat().st_size < writer.bytes_written:  # the writing thread is behind for a moment
        assert time.monotonic() < deadline
        time.sleep(0.001)
    with monkeypatch.context() as patch:
        patch.setattr(write_behind.os, call, full)
        rehearsal.run(1.0)
        answer = rehearsal.ask(Command.STOP)
    assert not answer.accepted
    assert rehearsal.session.state is State.READY
    assert (
        "episode 000000: found Input/output error" in rehearsal.session.message or "found state ready" in answer.reason
    )
    assert rehearsal.ask(Command.START).accepted
    (recovered,) = [r for r in rehearsal.store.recover_partials() if r.episode == 0]
    assert read_episode_json(recovered.path)["outcome"] == "recovered"
