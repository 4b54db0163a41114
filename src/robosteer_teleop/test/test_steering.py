"""From the link to the core and the recorder, without sockets and ROS; the pose log and its replay.

Pins: a fault event that does not open the clutch; a recentring that does not void the alignment; a reconnection whose
frame numbers start again and are taken for late ones, or are so after the last frame of the old connection; a button
read twice or, on a busy machine, not at all; a grip let go and squeezed again between two looks; a replay that differs
in one bit; a frame that is missing in the log; a log on a full disk that kept a fault from the core.
"""

import dataclasses
import io

import numpy as np
import pytest

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.control.core import TICK_S, CoreConfig
from robosteer_teleop.episodes import Command, State
from robosteer_teleop.hud import RecorderCues, compose, level_of
from robosteer_teleop.pose_log import MAGIC, Kind, LoggedCore, read_records, replay
from robosteer_teleop.protocol import Flags, PoseFrame
from robosteer_teleop.server.link import FAULTS, LinkEvent, LinkEventKind, ReceivedFrame
from robosteer_teleop.steering import Steering
from robosteer_teleop.teleop_command import main

from .hand import HOME, hand_at

LIVE = Flags.TRACKED | Flags.VISIBLE


class Link:
    """A headset on a test's clock."""

    def __init__(self, log=None, **config):
        self.steering = Steering(LoggedCore(CoreConfig(**({"yaw": 0.0} | config)), log))
        self.now, self.seq, self.count, self.measured = 0.0, -1, 0, HOME
        self.offset, self.steering.state = np.zeros(3), State.READY
        self.event(LinkEventKind.OPERATOR_CONNECTED)
        self.event(LinkEventKind.ARMED)

    def event(self, kind, **detail):
        self.steering.event(LinkEvent(kind, self.now, detail))

    def run(self, duration_s, **frame):
        for _ in range(round(duration_s / TICK_S)):
            self.now += TICK_S
            self.seq, self.count = self.seq + 1, self.count + 1
            values = {"flags": LIVE, "position": tuple(hand_at(self.offset))} | frame
            pose = PoseFrame(seq=self.seq, send_time=self.now, frame_time=self.now, **values)
            received = ReceivedFrame(pose, self.now, self.count, "s", True, 0.01, pose.encode())
            self.steering.frame(dataclasses.replace(received, frame=PoseFrame.decode(received.raw)))
            target = self.steering.tick(self.now, self.measured, 1.0)
            self.measured = target.motion.pose
        return target

    def press(self, button):
        """A press so short that no frame with it is seen."""
        self.event(LinkEventKind.BUTTON_PRESSED, button=button)
        self.event(LinkEventKind.BUTTON_RELEASED, button=button)

    def engage(self):
        self.run(0.03, squeeze=0.0)
        return self.run(0.03, squeeze=1.0)


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_every_fault_event_opens_the_clutch(kind):
    link = Link()
    assert link.engage().engaged
    assert link.steering.cues == ["engage"]
    link.event(kind)
    assert not link.run(0.3, squeeze=1.0).engaged
    assert link.steering.cues == ["engage", "tracking_lost"]
    assert link.steering.notice


def test_a_blurred_page_opens_the_clutch():
    link = Link()
    assert link.engage().engaged
    link.event(LinkEventKind.VISIBILITY, state="visible-blurred")
    assert not link.run(0.1, squeeze=1.0).engaged
    link.event(LinkEventKind.VISIBILITY, state="visible")
    assert link.engage().engaged


def test_recentring_needs_the_stick_and_the_ray_tells_where():
    link = Link()
    link.event(LinkEventKind.SESSION_STARTED, ray_in_grip=[0.0, 0.70710678, 0.0, 0.70710678])  # points left of the grip
    link.event(LinkEventKind.RESET)
    assert not link.engage().engaged
    link.run(0.02)
    link.press("STICK")
    assert link.steering.core.core.alignment.yaw == pytest.approx(-np.pi / 2, abs=1e-6)
    assert link.engage().engaged


def test_a_reconnection_starts_counting_again():
    link = Link()
    assert link.engage().engaged
    link.event(LinkEventKind.OPERATOR_DISCONNECTED)
    assert link.steering.operator_gone_s == link.now
    link.event(LinkEventKind.OPERATOR_CONNECTED)
    link.seq = -1
    assert not link.run(0.1, squeeze=1.0).engaged
    assert link.engage().engaged


def test_the_last_frame_of_an_old_connection_does_not_make_the_new_one_late():
    link = Link()
    link.seq = 5000
    last = PoseFrame(seq=5001, send_time=1.0, frame_time=1.0, flags=LIVE, position=tuple(hand_at(link.offset)))
    unread = ReceivedFrame(last, link.now + 0.001, 1, "s", True, 0.01, last.encode())
    link.now, link.seq, link.count = link.now + 0.002, -1, 1
    link.event(LinkEventKind.OPERATOR_DISCONNECTED)
    link.event(LinkEventKind.OPERATOR_CONNECTED)
    link.steering.frames([unread], unread)  # a busy machine reads events and frames later, and events first
    assert link.engage().engaged


def test_buttons_and_messages_become_commands():
    link = Link()
    link.run(0.02)
    link.press("A")
    link.run(0.1)
    assert link.steering.commands == [Command.START]
    link.steering.commands.clear()
    for name, argument in (("stop", None), ("relabel", "failure"), ("keep", None), ("undo_last", None)):
        link.event(LinkEventKind.COMMAND, name=name, argument=argument)
    assert link.steering.commands == [Command.STOP, Command.LABEL_FAILURE, Command.KEEP, Command.UNDO_LAST]
    link.event(LinkEventKind.COMMAND, name="scale", argument=0.4)
    assert link.steering.core.core.scaling.rotation == 0.4
    link.steering.cues.clear()
    for name, argument in (("scale", 9), ("scale", "x"), ("relabel", "great"), ("jump", None)):
        link.event(LinkEventKind.COMMAND, name=name, argument=argument)
    assert link.steering.cues == ["refuse"] * 4


def test_every_frame_is_logged_once_and_the_newest_steers(tmp_path):
    def received(count):
        pose = PoseFrame(seq=count, send_time=0.1 * count, frame_time=0.1 * count, flags=LIVE)
        return ReceivedFrame(pose, 0.1 * count, count, "s", True, 0.01, pose.encode())

    log = tmp_path / "a.poses"
    steering = Steering(LoggedCore(CoreConfig(yaw=0.0), log))
    one, two, three, four, five = (received(count) for count in range(1, 6))
    steering.frames([one, two], three)  # the slot is filled a moment before the tap
    steering.frames([three, four, five], five)
    steering.frames([], five)
    steering.frames([received(6)], None)  # the operator is gone
    steering.core.close()
    kinds = [
        (kind, PoseFrame.decode(payload[8:]).seq)
        for kind, payload in read_records(log)
        if kind in (Kind.FRAME, Kind.SKIPPED)
    ]
    skipped, took = Kind.SKIPPED, Kind.FRAME
    assert kinds == [(skipped, 1), (skipped, 2), (took, 3), (skipped, 4), (took, 5), (skipped, 6)]
    assert (replay(log).frames, replay(log).skipped) == (2, 4)


def test_a_release_between_two_looks_is_not_overlooked():
    link = Link()
    assert link.engage().engaged

    def received(squeeze):
        link.now, link.seq, link.count = link.now + 0.014, link.seq + 1, link.count + 1
        values = {"flags": LIVE, "position": tuple(hand_at(link.offset)), "squeeze": squeeze}
        pose = PoseFrame(seq=link.seq, send_time=link.now, frame_time=link.now, **values)
        return ReceivedFrame(pose, link.now, link.count, "s", True, 0.01, pose.encode())

    passed = [received(1.0), received(0.0), received(1.0)]
    link.steering.frames(passed, passed[-1])
    assert not link.steering.core.core.engaged, "the hand was moved to a better place, and the arm must not follow"
    assert link.engage().engaged


def test_a_full_disk_ends_the_log_and_not_the_core(tmp_path):
    core = LoggedCore(CoreConfig(yaw=0.0), tmp_path / "full.poses")
    core._file.close()
    core._file = io.FileIO("/dev/full", "w")
    core.enable(True)
    assert core.core.enabled, "a fault that could not be logged must open the clutch all the same"
    assert "No space left" in core.trouble
    core.fault("stale")
    core.close()


def test_a_log_replays_bit_for_bit_and_a_changed_one_does_not(tmp_path, capsys):
    log = tmp_path / "log/session.poses"
    link = Link(log)
    link.engage()
    for k in range(40):
        link.offset = link.offset + np.array([0.002, 0.001 * (k % 3), -0.001])
        link.run(0.015, squeeze=1.0, trigger=0.5, flags=LIVE | (Flags.EMULATED if k == 20 else Flags(0)))
    link.event(LinkEventKind.COMMAND, name="scale", argument=0.4)  # refused: engaged
    link.event(LinkEventKind.RESET)
    link.run(0.05)
    link.press("STICK")
    link.steering.core.close()
    found = replay(log)
    assert found.first_difference is None
    assert found.ticks == found.frames > 100
    assert found.engaged_s > 0.5
    assert main(["replay", str(log)]) == 0
    assert "bit for bit" in capsys.readouterr().out
    content = bytearray(log.read_bytes())
    log.write_bytes(content[: len(content) - 5])  # as a crash leaves it
    assert replay(log).first_difference is None
    content[content.index(b'"min_cutoff_hz": 3.0') + len('"min_cutoff_hz": ')] = ord("4")
    log.write_bytes(content)
    assert replay(log).first_difference is not None
    assert main(["replay", str(log)]) == 1
    log.write_bytes(MAGIC)
    with pytest.raises(RobosteerError, match="found no configuration"):
        replay(log)
    log.write_bytes(b"something else")
    with pytest.raises(RobosteerError, match="expected a pose log"):
        replay(log)


def test_the_hud_shows_the_recorder_and_cues_its_changes(rig):
    link = Link()
    target = link.engage()
    core = link.steering.core.core
    recorder = {"state": "recording", "kept": 7, "discarded": 2, "elapsed_s": 3.0, "instruction": "pick", "topics": {}}
    shown = compose(core, target, link.measured, recorder, rig, 20)
    assert (shown["phase"], shown["kept"], shown["wanted"], shown["engaged"]) == ("recording", 7, 20, True)
    assert shown["yaw_rad"] == 0.0, "the page draws the robot's forward direction"
    assert {camera["level"] for camera in shown["cameras"].values()} == {"fail"}
    assert [level_of(rate, 60.0) for rate in (60, 50, 41)] == ["ok", "warn", "fail"]
    assert compose(core, target, None, {}, rig, 0)["hint"] == "no recorder"
    cues = RecorderCues()
    assert cues.update(recorder) == []
    assert cues.update({**recorder, "degraded": True}) == ["stream_failed"]
    assert cues.update({**recorder, "state": "review"}) == ["record_stop"]
    assert cues.update({**recorder, "state": "ready", "kept": 8}) == ["saved"]
    assert cues.update({**recorder, "state": "countdown", "kept": 8}) == ["countdown"]
