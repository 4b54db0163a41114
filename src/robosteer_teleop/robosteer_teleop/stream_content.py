"""What a stream's rate does not show over a whole episode: slow stretches, and a camera that repeats one picture."""

from __future__ import annotations

from collections import deque

SLOW_WINDOW_NS = 1_000_000_000
_STAMP_END = 12  # encapsulation (4 bytes) and std_msgs/Header's stamp (8 bytes); the content follows
MIN_REPEATS = 3


class SlowestSecond:
    """The least number of messages within one second, by their stamps: a late receiver does not count."""

    def __init__(self) -> None:
        """Start without a full second."""
        self._stamps: deque[int] = deque()
        self.rate_hz: float | None = None
        """None before a second is full."""

    def take(self, stamp_ns: int) -> None:
        """Count a message."""
        stamps = self._stamps
        if stamps and stamp_ns < stamps[-1]:
            return  # out of order; its second was counted without it
        full = False
        while stamps and stamp_ns - stamps[0] >= SLOW_WINDOW_NS:
            stamps.popleft()
            full = True
        stamps.append(stamp_ns)
        if full:
            rate_hz = len(stamps) * 1e9 / SLOW_WINDOW_NS
            self.rate_hz = rate_hz if self.rate_hz is None else min(rate_hz, self.rate_hz)


class Repeats:
    """How long a camera has sent the same bytes. Two pictures of a real sensor never agree in every bit of noise."""

    def __init__(self) -> None:
        """Start without a picture."""
        self._content = b""
        self._since_ns = 0
        self._count = 0
        self.now_s = 0.0
        self.longest_s = 0.0

    def take(self, data: bytes, time_ns: int) -> None:
        """Compare a serialized image, apart from its stamp, with the last one.

        Args:
            data: CDR of a message that begins with std_msgs/Header.
            time_ns: its stamp, else its time of arrival; a driver that repeats its last picture stamps it anew.
        """
        content = data[_STAMP_END:]
        if content != self._content:
            self._content, self._since_ns, self._count = content, time_ns, 0
        self._count += 1
        self.now_s = (time_ns - self._since_ns) * 1e-9 if self._count > MIN_REPEATS else 0.0
        self.longest_s = max(self.longest_s, self.now_s)

    def begin_episode(self, time_ns: int) -> None:
        """Forget how long it lasted before."""
        self._since_ns, self.now_s, self.longest_s = max(self._since_ns, time_ns), 0.0, 0.0
