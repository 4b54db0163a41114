"""One stream of stamped messages, bounded in memory, that counts everything that is wrong with it."""

from __future__ import annotations

import bisect
import dataclasses
from typing import Generic, TypeVar

from robosteer_rig.units import NS_PER_S, seconds_to_ns

V = TypeVar("V")

HISTORY_S = 4.0  # How far streams may run apart before the oldest messages are given up.
MIN_CAPACITY = 32
MAX_BYTES = 128 * 1024 * 1024  # Per stream; reached only by raw video that nobody reads.
CLOCK_JUMP_NS = NS_PER_S  # No transport reorders by a second; clocks that are set do.
MAX_PAUSE_NS = 60 * NS_PER_S  # A longer pause starts anew, too: a forged stamp must not make a million stale frames.
GAP_PERIODS = 2.5  # Tolerates jitter of one period and one lost message's neighbour.


@dataclasses.dataclass
class StreamCounts:
    """What a stream has been through.

    Attributes:
        received: messages that arrived.
        duplicates: messages with the stamp of one that was there already; ignored.
        out_of_order: messages older than the newest; sorted in.
        late: messages older than everything that is kept; ignored.
        invalid: messages with NaN, some but not all joints, or wrong lengths; ignored.
        foreign: messages about other joints only; ignored.
        unstamped: messages without a stamp; the time of reception was taken.
        jumps_back: steps of the stamps backwards by more than a second; the stream restarts.
        jumps_forward: steps forwards by more than a second that the receiver's clock did not make, or by more than a
            minute; the stream restarts.
        gaps: pauses longer than 2.5 nominal periods.
        missed: messages that the gaps would have held.
        max_gap_ns: the longest pause.
        evicted: messages given up because memory was bounded.
    """

    received: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    late: int = 0
    invalid: int = 0
    foreign: int = 0
    unstamped: int = 0
    jumps_back: int = 0
    jumps_forward: int = 0
    gaps: int = 0
    missed: int = 0
    max_gap_ns: int = 0
    evicted: int = 0


class StreamBuffer(Generic[V]):
    """The recent messages of one stream in the order of their stamps. Not thread-safe by itself.

    Attributes:
        max_age_ns: age above which the latest message counts as stale.
        counts: what has happened so far.
    """

    def __init__(self, *, rate_hz: float, max_age_s: float, history_s: float = HISTORY_S) -> None:
        """Make an empty buffer.

        Args:
            rate_hz: nominal rate, for gaps and for the size of the buffer.
            max_age_s: see `max_age_ns`.
            history_s: messages of about this long are kept.
        """
        self.max_age_ns = seconds_to_ns(max_age_s)
        self.counts = StreamCounts()
        self._period_ns = NS_PER_S / rate_hz
        self._capacity = max(MIN_CAPACITY, int(history_s * rate_hz * 1.5))
        self._stamps: list[int] = []
        self._values: list[V] = []
        self._sizes: list[int] = []
        self._bytes = 0
        self._received_ns: int | None = None
        self._floor_ns: int | None = None  # Everything at or before this stamp is decided.

    def __len__(self) -> int:
        return len(self._stamps)

    @property
    def oldest_ns(self) -> int | None:
        """Stamp of the oldest message that is kept."""
        return self._stamps[0] if self._stamps else None

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest message."""
        return self._stamps[-1] if self._stamps else None

    def push(self, stamp_ns: int, value: V, *, received_ns: int | None = None, size: int = 0) -> bool:
        """Take one message in.

        Args:
            stamp_ns: the sensor's stamp.
            value: the message.
            received_ns: time of reception on the same clock, used only to tell a gap from a clock jump.
            size: bytes that `value` holds.

        Returns:
            False when the stamps jumped: the buffer then holds this message alone.
        """
        counts, newest = self.counts, self.newest_ns
        counts.received += 1
        elapsed_ns = None if received_ns is None or self._received_ns is None else received_ns - self._received_ns
        self._received_ns = received_ns
        steady = newest is None or self._judge_step(stamp_ns - newest, elapsed_ns)
        if not steady:
            self.clear()
        self._insert(stamp_ns, value, size)
        self._bound()
        return steady

    def latest(self, t_ns: int) -> tuple[int, V] | None:
        """The message with the largest stamp at or before `t_ns`, as (stamp in ns, value); None without one."""
        i = bisect.bisect_right(self._stamps, t_ns)
        return None if i == 0 else (self._stamps[i - 1], self._values[i - 1])

    def forget_before(self, t_ns: int) -> None:
        """Drop what no frame at or after `t_ns` can need: everything older than the latest at or before it."""
        keep = bisect.bisect_right(self._stamps, t_ns) - 1
        if keep >= 0:
            self._floor_ns = self._stamps[keep]
        self._drop_first(max(keep, 0))

    def clear(self) -> None:
        """Forget all messages; the counts stay."""
        self._drop_first(len(self._stamps))
        self._floor_ns = None

    def _judge_step(self, step_ns: int, elapsed_ns: int | None) -> bool:
        """Count what the step from the newest message means; False for a clock jump."""
        counts = self.counts
        if step_ns < -CLOCK_JUMP_NS:
            counts.jumps_back += 1
            return False
        if step_ns > MAX_PAUSE_NS or (elapsed_ns is not None and step_ns - elapsed_ns > CLOCK_JUMP_NS):
            counts.jumps_forward += 1
            return False
        if step_ns > GAP_PERIODS * self._period_ns:
            counts.gaps += 1
            counts.missed += round(step_ns / self._period_ns) - 1
        counts.max_gap_ns = max(counts.max_gap_ns, step_ns)
        return True

    def _insert(self, stamp_ns: int, value: V, size: int) -> None:
        i = bisect.bisect_left(self._stamps, stamp_ns)
        if i < len(self._stamps) and self._stamps[i] == stamp_ns:
            self.counts.duplicates += 1
            return
        if self._floor_ns is not None and stamp_ns <= self._floor_ns:
            self.counts.late += 1
            return
        self.counts.out_of_order += i < len(self._stamps)
        self._stamps.insert(i, stamp_ns)
        self._values.insert(i, value)
        self._sizes.insert(i, size)
        self._bytes += size

    def _bound(self) -> None:
        surplus, held = 0, self._bytes
        while len(self._stamps) - surplus > self._capacity or (held > MAX_BYTES and len(self._stamps) - surplus > 1):
            held -= self._sizes[surplus]
            surplus += 1
        if surplus:
            self.counts.evicted += surplus
            self._floor_ns = self._stamps[surplus - 1]
            self._drop_first(surplus)

    def _drop_first(self, count: int) -> None:
        self._bytes -= sum(self._sizes[:count])
        del self._stamps[:count], self._values[:count], self._sizes[:count]
