"""Does a robot, or a recording of it, keep the rig's contract? Watches every stream and says what differs."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from robosteer_rig.rig import GRIPPER_COMMAND, GRIPPER_STATE, JOINT_STATE, Rig
from robosteer_rig.stream_watch import StreamWatch, follow_gripper
from robosteer_rig.streams import GAP_PERIODS

Verdict = Literal["ok", "note", "bad"]
MIN_RATE = 0.9  # of the nominal rate
MAX_RATE = 1.25
MAX_STAMP_SKEW_S = 0.5
MOVED = 0.2  # of the gripper's range: what counts as having followed a command
# The policy subscribes to these as reliable: a best-effort publisher never reaches it.
RELIABLE_STREAMS = (JOINT_STATE, GRIPPER_STATE)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the verdict.

    Attributes:
        stream: of the rig.
        topic: its topic.
        what: type, rate, qos, joints, image, ...
        verdict: ok, note (worth knowing) or bad (breaks the contract).
        found: in words.
        expected: in words.
    """

    stream: str
    topic: str
    what: str
    verdict: Verdict
    found: str
    expected: str = ""


@dataclasses.dataclass
class TopicFacts:
    """What the graph or the bag says about a topic without looking at messages.

    Attributes:
        types: message types that it has.
        qos: what its publishers offer.
        publishers: their number; None where nobody can tell (a bag).
    """

    types: tuple[str, ...] = ()
    qos: tuple[tuple[str, str], ...] = ()
    publishers: int | None = None


class RigCheck:
    """Compares what was watched with the rig."""

    def __init__(self, rig: Rig, *, same_clock: bool = True) -> None:
        """Prepare to watch.

        Args:
            rig: the contract.
            same_clock: stamps and times of reception are on one clock (not so for recordings of simulated time).
        """
        self.rig = rig
        self.facts = {stream: TopicFacts() for stream in rig.topics()}
        self.watches = {stream: StreamWatch(rig, stream) for stream in rig.topics()}
        self._same_clock = same_clock

    def receive(self, stream: str, message: Any, received_ns: int) -> None:
        """Take one message of the type that the rig names."""
        self.watches[stream].receive(message, received_ns)

    def rows(self) -> list[Row]:
        """The verdict, stream by stream."""
        found = [row for stream in self.rig.topics() for row in self._stream_rows(stream)]
        return [*found, *self._polarity()]

    def _stream_rows(self, stream: str) -> list[Row]:
        topic, wanted = self.rig.topics()[stream]
        facts, watch = self.facts[stream], self.watches[stream]
        needed = stream in self.rig.observation_topics()
        row = lambda what, verdict, found, expected="": Row(stream, topic, what, verdict, found, expected)  # noqa: E731
        if not facts.types:
            return [row("topic", "bad" if needed else "note", "nobody publishes it", wanted)]
        if facts.types != (wanted,):
            return [row("type", "bad", ", ".join(facts.types), wanted)]
        rows = [row("type", "ok", wanted)]
        if facts.publishers is not None and facts.publishers > 1:
            rows.append(row("publishers", "bad", str(facts.publishers), "one"))
        rows += [row("qos", *verdict) for verdict in self._qos(stream)]
        if not watch.count:
            return [*rows, row("messages", "bad" if needed else "note", "none", "some")]
        rows.append(row("rate", *self._rate(stream)))
        rows += [row("pauses", *verdict) for verdict in self._pauses(stream)]
        rows += [row("clock", *verdict) for verdict in self._clock(stream)]
        rows += [row(what, "bad", found, expected) for what, (found, expected) in watch.problems.items()]
        rows += [row(what, "note", found) for what, found in watch.notes.items()]
        if stream in self.rig.cameras:
            rows += [row("image", *verdict) for verdict in self._picture(stream)]
        return rows

    def _qos(self, stream: str) -> list[tuple[Verdict, str, str]]:
        offered = self.facts[stream].qos
        words = ", ".join(sorted({f"{reliability} {durability}" for reliability, durability in offered}))
        if stream in RELIABLE_STREAMS and any(reliability == "best_effort" for reliability, _ in offered):
            return [("bad", words, "reliable; the policy's subscription gets nothing from a best-effort publisher")]
        return [("ok", words, "")] if words else []

    def _rate(self, stream: str) -> tuple[Verdict, str, str]:
        nominal, watch = self._nominal_hz(stream), self.watches[stream]
        rate = watch.rate_hz()
        if nominal is None:
            return ("ok", f"{watch.count} messages", "")
        if rate is None:
            return ("bad", f"{watch.count} messages", f"{nominal:g} Hz")
        if rate < MIN_RATE * nominal:
            return ("bad", f"{rate:.1f} Hz", f"{nominal:g} Hz")
        if rate > MAX_RATE * nominal:
            return ("note", f"{rate:.1f} Hz", f"{nominal:g} Hz; correct the rig file")
        return ("ok", f"{rate:.1f} Hz", f"{nominal:g} Hz")

    def _pauses(self, stream: str) -> list[tuple[Verdict, str, str]]:
        nominal, gap = self._nominal_hz(stream), self.watches[stream].longest_gap_s()
        if nominal is None or gap <= GAP_PERIODS / nominal:
            return []
        return [("note", f"up to {gap:.3f} s", f"{1 / nominal:.3f} s")]

    def _nominal_hz(self, stream: str) -> float | None:
        if stream in self.rig.cameras:
            return self.rig.cameras[stream].rate_hz
        return {JOINT_STATE: self.rig.arm.state_rate_hz, GRIPPER_STATE: self.rig.gripper.state_rate_hz}.get(stream)

    def _clock(self, stream: str) -> list[tuple[Verdict, str, str]]:
        skew = self.watches[stream].skew_s()
        if not self._same_clock or skew is None or abs(skew) <= MAX_STAMP_SKEW_S:
            return []
        return [("bad", f"stamps {abs(skew):.2f} s {'behind' if skew > 0 else 'ahead of'} this clock", "the same time")]

    def _picture(self, stream: str) -> list[tuple[Verdict, str, str]]:
        camera, watch = self.rig.cameras[stream], self.watches[stream]
        if "image" in watch.problems:
            return []
        if watch.frozen():
            return [("bad", "the same picture all the time", "a live camera")]
        return [("ok", f"{camera.width}x{camera.height} {camera.encoding}", "")]

    def _polarity(self) -> list[Row]:
        """Whether the measured gripper follows its commands, and in which direction."""
        topic = self.rig.gripper.state_topic
        moves = follow_gripper(self.watches[GRIPPER_COMMAND].values, self.watches[GRIPPER_STATE].values)
        if not moves:
            return [Row(GRIPPER_STATE, topic, "polarity", "note", "no command to compare with; open and close it once")]
        right = sum(move > MOVED for move in moves)
        wrong = sum(move < -MOVED for move in moves)
        found = f"{right} of {len(moves)} commands followed, {wrong} the other way"
        if wrong > right:
            return [
                Row(GRIPPER_STATE, topic, "polarity", "bad", found, "closed = 1; exchange open and closed_position")
            ]
        return [Row(GRIPPER_STATE, topic, "polarity", "ok" if right else "note", found)]
