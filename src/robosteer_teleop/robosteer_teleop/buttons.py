"""What the operator's controller and keys mean: the same commands as the services, by the state they are pressed in.

| | ready | countdown | recording | review | confirm |
|---|---|---|---|---|---|
| A | start | cancel | stop | keep | cancel |
| B | hold 1.5 s: delete last | cancel | hold 0.6 s: discard | discard | delete last |
| stick left, right | | | | label | |
| stick up, down | scale (clutch open) | | | note | |
| stick click | align (clutch open) | align | align | align | |
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from robosteer_teleop.episodes import BETWEEN, Command, State

DISCARD_HOLD_S = 0.6
DELETE_HOLD_S = 1.5
STICK_ON, STICK_OFF = 0.7, 0.3
LABELS = ("success", "failure", "practice")


class HandAction(StrEnum):
    """What concerns the hand and not the episode."""

    ALIGN = "align"
    SCALE_UP = "scale_up"
    SCALE_DOWN = "scale_down"


_A: Mapping[State, Command] = {
    State.IDLE: Command.START,  # refused with the reason
    State.READY: Command.START,
    State.COUNTDOWN: Command.CANCEL,
    State.RECORDING: Command.STOP,
    State.REVIEW: Command.KEEP,
    State.CONFIRM: Command.CANCEL,
}
_B: Mapping[State, Command] = {
    State.COUNTDOWN: Command.CANCEL,
    State.REVIEW: Command.DISCARD,
    State.CONFIRM: Command.DELETE_LAST,
}
_B_HELD: Mapping[State, tuple[float, Command]] = {
    State.RECORDING: (DISCARD_HOLD_S, Command.DISCARD),
    State.IDLE: (DELETE_HOLD_S, Command.DELETE_LAST),
    State.READY: (DELETE_HOLD_S, Command.DELETE_LAST),
}
KEYS: Mapping[str, Command] = {
    "s": Command.START,
    " ": Command.STOP,
    "k": Command.KEEP,
    "f": Command.KEEP_FAILURE,
    "d": Command.DISCARD,
    "u": Command.UNDO_LAST,
    "c": Command.CANCEL,
    "a": Command.ABORT,
    "x": Command.DELETE_LAST,
    "n": Command.NEXT_NOTE,
    "1": Command.LABEL_SUCCESS,
    "2": Command.LABEL_FAILURE,
    "3": Command.LABEL_PRACTICE,
}
"""Keys of the terminal client."""


def label_command(label: str) -> Command:
    """The command that sets a label."""
    return Command(f"label_{label}")


class ButtonReader:
    """Turns pressed buttons into commands: once per press, and a held button does one thing only."""

    def __init__(self) -> None:
        """Start with everything released; what is pressed at first does not count."""
        self._a = self._stick_click = True
        self._b_since: float | None = None
        self._b_done = True
        self._stick: tuple[int, int] = (0, 0)

    def update(
        self,
        now_s: float,
        *,
        a: bool,
        b: bool,
        stick_click: bool,
        stick: tuple[float, float],
        state: State,
        label: str = LABELS[0],
    ) -> list[Command | HandAction]:
        """Look at the controller once.

        Args:
            now_s: any monotonic clock, s.
            a: A is down.
            b: B is down.
            stick_click: the thumbstick is pressed.
            stick: its deflection (right, down), -1 ... 1.
            state: of the recorder at this moment.
            label: of the episode under review.
        """
        found: list[Command | HandAction] = []
        if a and not self._a and state in _A:
            found.append(_A[state])
        found += self._read_b(now_s, b, state)
        if stick_click and not self._stick_click:
            found.append(HandAction.ALIGN)
        self._a, self._stick_click = a, stick_click
        return found + self._read_stick(stick, state, label)

    def _read_b(self, now_s: float, b: bool, state: State) -> list[Command | HandAction]:
        if not b:
            self._b_since, self._b_done = None, False
            return []
        if self._b_done:
            return []
        if self._b_since is None:
            self._b_since = now_s
            if state in _B:
                self._b_done = True
                return [_B[state]]
        hold_s, command = _B_HELD.get(state, (float("inf"), Command.DISCARD))
        if now_s - self._b_since >= hold_s:
            self._b_done = True  # the same hold must not go on to delete an older episode
            return [command]
        return []

    def _read_stick(self, stick: tuple[float, float], state: State, label: str) -> list[Command | HandAction]:
        before = self._stick
        self._stick = (_flick(stick[0], before[0]), _flick(stick[1], before[1]))
        right = self._stick[0] if self._stick[0] != before[0] else 0
        down = self._stick[1] if self._stick[1] != before[1] else 0
        if state is State.REVIEW:
            labels = [label_command(LABELS[(LABELS.index(label) + right) % len(LABELS)])] if right else []
            notes = [Command.NEXT_NOTE if down > 0 else Command.PREVIOUS_NOTE] if down else []
            return [*labels, *notes]
        if state in BETWEEN and down:
            return [HandAction.SCALE_DOWN if down > 0 else HandAction.SCALE_UP]
        return []


def _flick(value: float, before: int) -> int:
    """-1, 0 or 1 with hysteresis."""
    if abs(value) > STICK_ON:
        return 1 if value > 0 else -1
    return 0 if abs(value) < STICK_OFF else before
