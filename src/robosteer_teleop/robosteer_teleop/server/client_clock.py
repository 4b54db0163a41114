"""Offset between a client's clock and the host's, from pings. Pure; time is passed in."""

from __future__ import annotations

from collections import deque

WINDOW = 30  # pings; the one with the shortest round trip bounds the error best


class ClientClock:
    """Estimates `client clock - host clock` by the midpoint of the fastest of the last pings.

    The error is at most half that ping's round trip.
    """

    def __init__(self) -> None:
        self._sent: dict[int, float] = {}
        self._samples: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self._next = 0

    def ping(self, now: float) -> int:
        """Number of a ping that leaves now."""
        self._next += 1
        self._sent[self._next] = now
        self._sent.pop(self._next - WINDOW, None)
        return self._next

    def pong(self, number: object, client_s: object, now: float) -> None:
        """Take an answer; an unknown number or a time that is none is ignored."""
        if not isinstance(number, int) or not isinstance(client_s, int | float):
            return
        sent = self._sent.pop(number, None)
        if sent is not None:
            self._samples.append((now - sent, client_s - (sent + now) / 2))

    @property
    def rtt_s(self) -> float | None:
        """Round trip of the last ping."""
        return self._samples[-1][0] if self._samples else None

    @property
    def offset_s(self) -> float | None:
        """Client clock minus host clock (`time.monotonic`)."""
        return min(self._samples)[1] if self._samples else None
