"""The failed-stream watch: which streams are silent, slow, interrupted or wrongly stamped, now and over an episode."""

from __future__ import annotations

import dataclasses
import struct
from collections import deque
from collections.abc import Sequence

from robosteer_teleop.stream_content import Repeats, SlowestSecond
from robosteer_teleop.topics import RecordedTopic, definition

WINDOW_S = 2.0  # over which the live rate is counted
SILENT_S = 1.0
MAX_CLOCK_ERROR_S = 2.0  # an older or later stamp means that two clocks disagree, not that a link is slow
GOOD_RATE = 0.9  # share of the promised rate below which a stream is warned of, and an episode is marked
FAILED_RATE = 0.7  # below which it has failed: no start, and one such second marks an episode
FROZEN_S = 1.0
_IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_STAMPS = {0: struct.Struct(">iI"), 1: struct.Struct("<iI")}  # by the CDR encapsulation's second byte


def header_stamp_ns(data: bytes) -> int | None:
    """Read the stamp of a serialized message that begins with std_msgs/Header, without deserialising the rest.

    Args:
        data: CDR with its 4-byte encapsulation header.

    Returns:
        ns, or None for an unset stamp or another encapsulation.
    """
    if len(data) < 12 or data[1] not in _STAMPS:
        return None
    seconds, nanoseconds = _STAMPS[data[1]].unpack_from(data, 4)
    return seconds * 1_000_000_000 + nanoseconds or None


@dataclasses.dataclass(frozen=True)
class Problem:
    """One reason to distrust a stream.

    Attributes:
        topic: name.
        kind: missing, silent, rate, slow, gap, frozen or clock.
        found: measured number.
        limit: what was expected.
        unit: of both, s or Hz.
    """

    topic: str
    kind: str
    found: float
    limit: float
    unit: str

    def __str__(self) -> str:
        """One phrase."""
        if self.kind == "missing":
            return f"{self.topic} has no message"
        text = {
            "silent": "is silent for",
            "rate": "comes at",
            "slow": "came for a second at",
            "gap": "had a gap of",
            "frozen": "showed the same picture for",
            "clock": "has stamps off by",
        }
        return f"{self.topic} {text[self.kind]} {self.found:.3g} {self.unit} (limit {self.limit:.3g} {self.unit})"

    def to_json(self) -> dict[str, object]:
        """Return plain data for episode.json and the state topic."""
        return {**dataclasses.asdict(self), "found": round(self.found, 4), "limit": round(self.limit, 4)}


@dataclasses.dataclass
class _Stream:
    topic: RecordedTopic
    has_header: bool
    total: int = 0
    last_seen_s: float | None = None
    last_time_ns: int = 0  # stamp where there is one, else receive time
    clock_error_s: float = 0.0
    window: deque[tuple[float, int]] = dataclasses.field(default_factory=deque)
    count: int = 0
    max_gap_s: float = 0.0
    max_clock_error_s: float = 0.0
    slowest: SlowestSecond = dataclasses.field(default_factory=SlowestSecond)
    repeats: Repeats = dataclasses.field(default_factory=Repeats)
    episode_seen_ns: int = 0
    episode_time_ns: int = 0


class StreamWatch:
    """Counts messages. Time is passed in, so that tests need none."""

    def __init__(
        self,
        topics: Sequence[RecordedTopic],
        *,
        min_rate_fraction: float = FAILED_RATE,
        check_clocks: bool = True,
        frozen_s: float = FROZEN_S,
    ) -> None:
        """Start with nothing received.

        Args:
            topics: to watch.
            min_rate_fraction: a needed stream below this share of its promised rate refuses a start.
            check_clocks: compare stamps with the receive time; off under simulated time.
            frozen_s: a needed camera that repeats one picture for longer has failed; 0 where pictures of a still scene
                are equal, as in a simulation.
        """
        self._streams = {t.name: _Stream(t, definition(t.type).has_header) for t in topics}
        self._min_rate_fraction = min_rate_fraction
        self._check_clocks = check_clocks
        self._frozen_s = frozen_s
        self._bytes = 0
        self._bytes_window: deque[tuple[float, int]] = deque()
        self._episode_start_s: float | None = None
        self._episode_start_ns = 0

    def receive(self, topic: str, receive_ns: int, data: bytes, now_s: float) -> None:
        """Count one message.

        Args:
            topic: its name.
            receive_ns: wall-clock time of arrival, ns.
            data: serialized message.
            now_s: monotonic time, s.
        """
        stream = self._streams[topic]
        stamp_ns = header_stamp_ns(data) if stream.has_header else None
        if stamp_ns is not None and self._check_clocks:
            stream.clock_error_s = (receive_ns - stamp_ns) * 1e-9
        stream.total += 1
        stream.last_seen_s = now_s
        stream.last_time_ns = stamp_ns or receive_ns
        self._bytes += len(data)
        if self._frozen_s and stream.topic.needed and stream.topic.type in _IMAGES:
            stream.repeats.take(data, stream.last_time_ns)
        if self._episode_start_s is not None:
            self._count_in_episode(stream, receive_ns)

    def _count_in_episode(self, stream: _Stream, receive_ns: int) -> None:
        # The first is compared with the start, for which there is no stamp.
        first_ns = receive_ns - self._episode_start_ns
        gap_ns = stream.last_time_ns - stream.episode_time_ns if stream.count else first_ns
        stream.max_gap_s = max(stream.max_gap_s, gap_ns * 1e-9)
        stream.count += 1
        stream.episode_time_ns = stream.last_time_ns
        stream.episode_seen_ns = receive_ns
        if stream.topic.rate_hz:
            stream.slowest.take(stream.last_time_ns)
        stream.max_clock_error_s = max(stream.max_clock_error_s, abs(stream.clock_error_s))

    def tick(self, now_s: float) -> None:
        """Move the window over which rates are counted; call about ten times a second."""
        for stream in self._streams.values():
            _move(stream.window, now_s, stream.total)
        _move(self._bytes_window, now_s, self._bytes)

    def rate_hz(self, topic: str) -> float:
        """Return the live rate of a topic, 0 before two ticks."""
        return _slope(self._streams[topic].window)

    def bytes_per_s(self) -> float:
        """What all topics bring, and an episode writes."""
        return _slope(self._bytes_window)

    def counts(self) -> dict[str, int]:
        """Messages of the running or last episode by topic."""
        return {name: stream.count for name, stream in self._streams.items()}

    def live_problems(self, now_s: float) -> list[Problem]:
        """What is wrong with the needed streams at this moment."""
        found = [self._live_problem(s, now_s) for s in self._streams.values() if s.topic.needed]
        return [problem for problem in found if problem is not None]

    def _live_problem(self, stream: _Stream, now_s: float) -> Problem | None:
        name, promised = stream.topic.name, stream.topic.rate_hz
        if stream.last_seen_s is None:
            return Problem(name, "missing", 0, 1, "messages")
        limit_s = max(SILENT_S, 5.0 / promised if promised else 0.0)
        if now_s - stream.last_seen_s > limit_s:
            return Problem(name, "silent", now_s - stream.last_seen_s, limit_s, "s")
        if abs(stream.clock_error_s) > MAX_CLOCK_ERROR_S:
            return Problem(name, "clock", stream.clock_error_s, MAX_CLOCK_ERROR_S, "s")
        if self._frozen_s and stream.repeats.now_s > self._frozen_s:
            return Problem(name, "frozen", stream.repeats.now_s, self._frozen_s, "s")
        return self._slow(stream, self._min_rate_fraction, now_s)

    def live_warnings(self, now_s: float) -> list[Problem]:
        """Needed streams that are slower than promised, though not so slow that a start is refused."""
        streams = [s for s in self._streams.values() if s.topic.needed and self._live_problem(s, now_s) is None]
        found = [self._slow(stream, GOOD_RATE, now_s) for stream in streams]
        return [problem for problem in found if problem is not None]

    def _slow(self, stream: _Stream, share: float, now_s: float) -> Problem | None:
        name, promised = stream.topic.name, stream.topic.rate_hz
        full_window = stream.window and now_s - stream.window[0][0] > WINDOW_S / 2
        if promised and full_window and self.rate_hz(name) < share * promised:
            return Problem(name, "rate", self.rate_hz(name), share * promised, "Hz")
        return None

    def begin_episode(self, now_s: float, wall_ns: int) -> None:
        """Reset the episode's counters."""
        self._episode_start_s, self._episode_start_ns = now_s, wall_ns
        for stream in self._streams.values():
            stream.count, stream.max_gap_s, stream.max_clock_error_s = 0, 0.0, 0.0
            stream.slowest = SlowestSecond()
            stream.repeats.begin_episode(stream.last_time_ns)

    def end_episode(self, now_s: float, wall_ns: int) -> list[Problem]:
        """Close the counters and return what an operator should know about the episode."""
        start_s = self._episode_start_s
        if start_s is None:
            return []
        self._episode_start_s = None
        for stream in self._streams.values():
            silence_ns = wall_ns - (stream.episode_seen_ns if stream.count else self._episode_start_ns)
            stream.max_gap_s = max(stream.max_gap_s, silence_ns * 1e-9)
        return [problem for s in self._streams.values() for problem in self._over_episode(s, now_s - start_s)]

    def episode_problems(self, now_s: float) -> list[Problem]:
        """What is wrong with the running episode so far."""
        if self._episode_start_s is None:
            return []
        duration_s = now_s - self._episode_start_s
        # A rate over less than a second says nothing yet.
        found = [p for s in self._streams.values() for p in self._over_episode(s, duration_s)]
        early = ("missing", "rate")
        return [p for p in found if p.kind not in early or (duration_s > 1.0 and p.kind == "rate")]

    def _over_episode(self, stream: _Stream, duration_s: float) -> list[Problem]:
        problems, repeated_s = _episode_problems(stream, duration_s), stream.repeats.longest_s
        if self._frozen_s and repeated_s > self._frozen_s:
            problems.append(Problem(stream.topic.name, "frozen", repeated_s, self._frozen_s, "s"))
        return problems


def _move(window: deque[tuple[float, int]], now_s: float, total: int) -> None:
    window.append((now_s, total))
    while now_s - window[0][0] > WINDOW_S:
        window.popleft()


def _slope(window: deque[tuple[float, int]]) -> float:
    """Increase per second over a window; 0 before two ticks."""
    if len(window) < 2 or window[-1][0] <= window[0][0]:
        return 0.0
    return (window[-1][1] - window[0][1]) / (window[-1][0] - window[0][0])


def _episode_problems(stream: _Stream, duration_s: float) -> list[Problem]:
    topic, problems = stream.topic, []
    if (topic.needed or topic.action) and not stream.count:
        return [Problem(topic.name, "missing", 0, 1, "messages")]
    if topic.max_gap_s is not None and stream.max_gap_s > topic.max_gap_s:
        problems.append(Problem(topic.name, "gap", stream.max_gap_s, topic.max_gap_s, "s"))
    if topic.rate_hz and duration_s > 0 and stream.count / duration_s < GOOD_RATE * topic.rate_hz:
        problems.append(Problem(topic.name, "rate", stream.count / duration_s, GOOD_RATE * topic.rate_hz, "Hz"))
    slowest = stream.slowest.rate_hz
    if not problems and topic.rate_hz and slowest is not None and slowest < FAILED_RATE * topic.rate_hz:
        problems.append(Problem(topic.name, "slow", slowest, FAILED_RATE * topic.rate_hz, "Hz"))
    if stream.max_clock_error_s > MAX_CLOCK_ERROR_S:
        problems.append(Problem(topic.name, "clock", stream.max_clock_error_s, MAX_CLOCK_ERROR_S, "s"))
    return problems
