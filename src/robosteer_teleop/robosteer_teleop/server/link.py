"""What the server hands to the rest of the program: frames in a latest-value slot and link events."""

from __future__ import annotations

import dataclasses
import enum
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from robosteer_teleop.protocol import PoseFrame


@dataclasses.dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """A pose frame that passed every check of the server.

    Attributes:
        frame: the sample.
        received_s: this host's `time.monotonic()` at reception.
        count: number of the frame since the server started; a reader sees new frames by it.
        session: which operator session sent it; a reconnect with the same token keeps the session.
        armed: whether the arming switch was on at reception. Without it nothing may move.
        pose_age_s: `received_s` minus the time for which the pose was predicted, by the estimated clock offset; None
            before the first estimate. Negative when the headset predicts further than the network delays.
        raw: the 96 bytes as received, for the pose log.
    """

    frame: PoseFrame
    received_s: float
    count: int
    session: str
    armed: bool
    pose_age_s: float | None
    raw: bytes


class LinkEventKind(enum.StrEnum):
    """What happened on the link."""

    OPERATOR_CONNECTED = "operator_connected"
    OPERATOR_DISCONNECTED = "operator_disconnected"
    OPERATOR_CHANGED = "operator_changed"
    OBSERVER_CONNECTED = "observer_connected"
    OBSERVER_DISCONNECTED = "observer_disconnected"
    SESSION_STARTED = "session_started"
    SESSION_ENDED = "session_ended"
    VISIBILITY = "visibility"
    RESET = "reset"
    TRACKING_LOST = "tracking_lost"
    TRACKING_FOUND = "tracking_found"
    STALE = "stale"
    RESUMED = "resumed"
    BAD_FRAME = "bad_frame"
    TOO_FAST = "too_fast"
    BUTTON_PRESSED = "button_pressed"
    BUTTON_RELEASED = "button_released"
    COMMAND = "command"
    ARMED = "armed"
    DISARMED = "disarmed"
    PAIRING_FAILED = "pairing_failed"
    LOCKED_OUT = "locked_out"
    CODE_CHANGED = "code_changed"
    OVERFLOW = "overflow"


FAULTS: Final = frozenset(
    {
        LinkEventKind.OPERATOR_DISCONNECTED,
        LinkEventKind.OPERATOR_CHANGED,
        LinkEventKind.SESSION_ENDED,
        LinkEventKind.RESET,
        LinkEventKind.TRACKING_LOST,
        LinkEventKind.STALE,
        LinkEventKind.BAD_FRAME,
        LinkEventKind.TOO_FAST,
        LinkEventKind.DISARMED,
        LinkEventKind.OVERFLOW,
    }
)
"""Events after which the clutch opens and stays open until the grip was let go and squeezed again. `VISIBILITY` is one
too when its detail is not `visible`: see `LinkEvent.fault`."""


@dataclasses.dataclass(frozen=True, slots=True)
class LinkEvent:
    """One event, in order.

    Attributes:
        kind: what happened.
        time_s: this host's `time.monotonic()`.
        detail: plain data, by kind; docs/reference/teleop-protocol.md lists it.
    """

    kind: LinkEventKind
    time_s: float
    detail: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def fault(self) -> bool:
        """Whether the clutch has to open and needs a fresh press."""
        if self.kind is LinkEventKind.VISIBILITY:
            return self.detail.get("state") != "visible"
        return self.kind in FAULTS


class LatestFrame:
    """Latest-value slot between the server's thread and a control loop. Poses are never queued."""

    def __init__(self) -> None:
        self._value: ReceivedFrame | None = None

    def put(self, value: ReceivedFrame | None) -> None:
        """Replace the value. One reference assignment: atomic in CPython."""
        self._value = value

    def get(self) -> ReceivedFrame | None:
        """The newest frame, or None."""
        return self._value


class FrameTap:
    """Every frame, for logs: filled in the server's thread, emptied by a loop. Control takes `LatestFrame` instead."""

    def __init__(self, capacity: int = 4096) -> None:
        """Start empty.

        Args:
            capacity: frames kept while nobody empties it, more than half a minute; then the oldest go.
        """
        self._frames: deque[ReceivedFrame] = deque(maxlen=capacity)

    def put(self, received: ReceivedFrame) -> None:
        """Append a frame."""
        self._frames.append(received)

    def drain(self) -> list[ReceivedFrame]:
        """Take all frames, oldest first."""
        return [self._frames.popleft() for _ in range(len(self._frames))]


class EventQueue:
    """Bounded queue of events; an overflow is itself an event (and a fault), so that nothing is lost silently."""

    def __init__(self, capacity: int = 1024) -> None:
        self._events: deque[LinkEvent] = deque()
        self._capacity = capacity
        self._lock = threading.Lock()

    def put(self, event: LinkEvent) -> None:
        """Append an event; when full, everything old is replaced by one `OVERFLOW`."""
        with self._lock:
            if len(self._events) >= self._capacity:
                lost = len(self._events)
                self._events.clear()
                self._events.append(LinkEvent(LinkEventKind.OVERFLOW, event.time_s, {"lost": lost}))
            self._events.append(event)

    def drain(self) -> list[LinkEvent]:
        """Take all events, oldest first."""
        with self._lock:
            events = list(self._events)
            self._events.clear()
        return events


class Board:
    """What the server shares with the rest of the program.

    Attributes:
        latest: the newest frame.
        events: events in order.
        armed: the arming switch.
        frames: frames received since the start.
    """

    def __init__(self, on_frame: Callable[[ReceivedFrame], None] | None = None) -> None:
        self.latest = LatestFrame()
        self.events = EventQueue()
        self.armed = False
        self.frames = 0
        self._on_frame = on_frame

    def emit(self, kind: LinkEventKind, now: float, **detail: Any) -> None:
        """Append an event."""
        self.events.put(LinkEvent(kind, now, detail))

    def arm(self, armed: bool, now: float) -> None:
        """Set the arming switch; says so when it changes."""
        if armed != self.armed:
            self.armed = armed
            self.emit(LinkEventKind.ARMED if armed else LinkEventKind.DISARMED, now)

    def receive(self, frame: PoseFrame, raw: bytes, session: str, pose_age_s: float | None, now: float) -> None:
        """Put a checked frame on the board."""
        self.frames += 1
        received = ReceivedFrame(frame, now, self.frames, session, self.armed, pose_age_s, raw)
        self.latest.put(received)
        if self._on_frame is not None:
            self._on_frame(received)
