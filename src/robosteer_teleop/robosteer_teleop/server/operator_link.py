"""One operator's connection: checks what comes, puts it on the board, watches for silence. Time is passed in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from robosteer_teleop.protocol import Command, PoseFrame, ProtocolError
from robosteer_teleop.server.client_clock import ClientClock
from robosteer_teleop.server.config import ServerConfig
from robosteer_teleop.server.gate import Edges, FrameGate, OutOfOrderError
from robosteer_teleop.server.link import Board, LinkEventKind

VISIBILITY = ("visible", "visible-blurred", "hidden")


class OperatorLink:
    """State of the operator's connection.

    Attributes:
        session: the operator's session.
        gate: the checks, with their counters.
        clock: estimate of the client's clock.
    """

    def __init__(self, session: str, config: ServerConfig, board: Board) -> None:
        self.session = session
        self.gate = FrameGate(config.max_rate_hz)
        self.clock = ClientClock()
        self._stale_after_s = config.stale_s
        self._board = board
        self._edges = Edges()
        self._last_s: float | None = None
        self._stale = False
        self._handlers: dict[str, Callable[[dict[str, Any], float], None]] = {
            "session": self._session,
            "visibility": self._visibility,
            "reset": self._reset,
            "command": self._command,
            "pong": lambda message, now: self.clock.pong(message.get("id"), message.get("client_s"), now),
        }

    def frame(self, data: bytes, now: float) -> None:
        """Take a binary message.

        Raises:
            ProtocolError: for bytes that are no frame.
            TooFastError: above the allowed rate.
        """
        try:
            frame = self.gate.check(data, now)
        except OutOfOrderError as error:
            self._board.emit(LinkEventKind.BAD_FRAME, now, reason=str(error), out_of_order=self.gate.out_of_order)
            return
        self._notice_gap(now)
        self._last_s = now
        self._notice_edges(frame, now)
        self._board.receive(frame, data, self.session, self.pose_age_s(frame, now), now)

    def pose_age_s(self, frame: PoseFrame, now: float) -> float | None:
        """How old a frame's pose is at `now`, by the estimated clock offset."""
        offset = self.clock.offset_s
        return None if offset is None else now - (frame.frame_time - offset)

    def watch(self, now: float) -> None:
        """Notice silence. Called every few milliseconds."""
        if self._last_s is not None and not self._stale and now - self._last_s > self._stale_after_s:
            self._stale = True
            self._board.emit(LinkEventKind.STALE, now, gap_s=now - self._last_s)

    def message(self, message: dict[str, Any], now: float) -> None:
        """Take a JSON message.

        Raises:
            ProtocolError: for an unknown type or wrong fields.
        """
        handler = self._handlers.get(message["type"])
        if handler is None:
            raise ProtocolError(f"message: found type {message['type'][:40]!r}, which no operator sends")
        handler(message, now)

    def _notice_gap(self, now: float) -> None:
        gap = 0.0 if self._last_s is None else now - self._last_s
        if gap > self._stale_after_s and not self._stale:  # the frame came before the watch looked
            self._board.emit(LinkEventKind.STALE, now, gap_s=gap)
            self._stale = True
        if self._stale:
            self._stale = False
            self._board.emit(LinkEventKind.RESUMED, now, gap_s=gap)

    def _notice_edges(self, frame: PoseFrame, now: float) -> None:
        tracking = self._edges.tracking(frame)
        if tracking is not None:
            self._board.emit(LinkEventKind.TRACKING_FOUND if tracking else LinkEventKind.TRACKING_LOST, now)
        pressed, released = self._edges.buttons(frame)
        for button in pressed:
            self._board.emit(LinkEventKind.BUTTON_PRESSED, now, button=button.name)
        for button in released:
            self._board.emit(LinkEventKind.BUTTON_RELEASED, now, button=button.name)

    def _session(self, message: dict[str, Any], now: float) -> None:
        if message.get("state") == "ended":
            self._last_s, self._stale = None, False
            self._board.emit(LinkEventKind.SESSION_ENDED, now)
            return
        ray, rate, profile = message.get("ray_in_grip"), message.get("frame_rate"), message.get("profile")
        if message.get("state") != "started" or not isinstance(profile, str) or not _is_number(rate):
            raise ProtocolError("session: expected state started or ended, a profile and a frame_rate")
        if not (isinstance(ray, list) and len(ray) == 4 and all(map(_is_number, ray))):
            raise ProtocolError("session: expected ray_in_grip as four numbers")
        if abs(math.hypot(*ray) - 1) > 0.01:
            raise ProtocolError("session: expected ray_in_grip of length 1")
        detail = {"profile": profile[:80], "frame_rate": rate, "ray_in_grip": tuple(ray)}
        self._board.emit(LinkEventKind.SESSION_STARTED, now, **detail)

    def _visibility(self, message: dict[str, Any], now: float) -> None:
        state = message.get("state")
        if state not in VISIBILITY:
            raise ProtocolError(f"visibility: expected one of {', '.join(VISIBILITY)}")
        self._board.emit(LinkEventKind.VISIBILITY, now, state=state)

    def _reset(self, message: dict[str, Any], now: float) -> None:
        self._board.emit(LinkEventKind.RESET, now)

    def _command(self, message: dict[str, Any], now: float) -> None:
        name, argument = message.get("name"), message.get("argument")
        if name not in list(Command):
            raise ProtocolError(f"command: expected one of {', '.join(Command)}")
        if not (argument is None or _is_number(argument) or (isinstance(argument, str) and len(argument) <= 200)):
            raise ProtocolError("command: expected an argument that is a number or a short string")
        self._board.emit(LinkEventKind.COMMAND, now, name=name, argument=argument)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
