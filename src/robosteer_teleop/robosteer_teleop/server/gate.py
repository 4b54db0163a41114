"""What a pose frame must survive before anybody else sees it: size, content, order, rate. Pure; time is passed in."""

from __future__ import annotations

from collections import deque

from robosteer_teleop.protocol import Buttons, PoseFrame


class TooFastError(Exception):
    """More messages than allowed."""


class OutOfOrderError(Exception):
    """A frame that is older than one already accepted."""


class TokenBucket:
    """Allows `rate_hz` on average and `burst` at once."""

    def __init__(self, rate_hz: float, burst: float) -> None:
        self._rate_hz = rate_hz
        self._burst = burst
        self._level = burst
        self._last_s: float | None = None

    def take(self, now: float) -> None:
        """Spend one.

        Raises:
            TooFastError: when none is left.
        """
        if self._last_s is not None:
            self._level = min(self._burst, self._level + (now - self._last_s) * self._rate_hz)
        self._last_s = now
        if self._level < 1:
            raise TooFastError(f"more than {self._rate_hz:g} messages a second")
        self._level -= 1


class FrameGate:
    """Checks the frames of one connection.

    Attributes:
        accepted: frames let through.
        lost: frames that the client numbered and did not send (its buffer was full).
        out_of_order: frames dropped for being old.
    """

    def __init__(self, max_rate_hz: float) -> None:
        self._bucket = TokenBucket(max_rate_hz, max_rate_hz / 2)
        self._last: PoseFrame | None = None
        self._arrivals: deque[float] = deque()
        self.accepted = 0
        self.lost = 0
        self.out_of_order = 0

    def check(self, data: bytes, now: float) -> PoseFrame:
        """Decode a frame that is new.

        Raises:
            ProtocolError: for bytes that are no frame.
            TooFastError: above the allowed rate.
            OutOfOrderError: for a number or a time that does not increase.
        """
        self._bucket.take(now)
        frame, last = PoseFrame.decode(data), self._last
        if last is not None:
            if frame.seq <= last.seq or frame.send_time < last.send_time or frame.frame_time < last.frame_time:
                self.out_of_order += 1
                raise OutOfOrderError(f"frame {frame.seq} after frame {last.seq}, or its time runs backwards")
            self.lost += frame.seq - last.seq - 1
        self._last = frame
        self.accepted += 1
        self._arrivals.append(now)
        return frame

    def rate_hz(self, now: float) -> float:
        """Frames accepted during the last second."""
        while self._arrivals and self._arrivals[0] < now - 1.0:
            self._arrivals.popleft()
        return float(len(self._arrivals))


class Edges:
    """Turns levels into edges. A button that is down in the first frame has not been pressed."""

    def __init__(self) -> None:
        self._buttons: Buttons | None = None
        self._tracked = True

    def buttons(self, frame: PoseFrame) -> tuple[list[Buttons], list[Buttons]]:
        """Buttons pressed and released since the last frame."""
        last = frame.buttons if self._buttons is None else self._buttons
        self._buttons = frame.buttons
        pressed = [button for button in Buttons if button in frame.buttons and button not in last]
        released = [button for button in Buttons if button in last and button not in frame.buttons]
        return pressed, released

    def tracking(self, frame: PoseFrame) -> bool | None:
        """True when tracking was found, False when it was lost, None when nothing changed."""
        if frame.tracked == self._tracked:
            return None
        self._tracked = frame.tracked
        return frame.tracked
