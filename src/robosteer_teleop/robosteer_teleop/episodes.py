"""The life of an episode: which command is accepted in which state, and what it causes.

    idle <-> ready                 whether a start would be accepted; looked at all the time
    ready --start--> countdown --(time)--> recording      without a countdown at once
    countdown --cancel | discard | abort--> ready
    recording --stop | abort | time is up | disk low | stream failed (strict)--> review
    recording --discard--> ready                          in the trash; undo_last --> review
    review --keep--> saving --> ready (count + 1)         with the label: success, failure or practice
    review --discard--> ready                             in the trash; undo_last --> review
    ready --delete_last--> confirm --delete_last--> ready the last kept episode, in the trash; undo_last --> review

One pure function decides; services, headset buttons and keys all ask it. Nothing here touches ROS, the clock or
the disk.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum

CONFIRM_S = 5.0
"""A deletion that nobody confirms within this time is forgotten."""


class State(StrEnum):
    """Where an episode is."""

    IDLE = "idle"
    READY = "ready"
    COUNTDOWN = "countdown"
    RECORDING = "recording"
    REVIEW = "review"
    SAVING = "saving"
    CONFIRM = "confirm"


BETWEEN = (State.IDLE, State.READY)
"""No episode is open."""


class Command(StrEnum):
    """What an operator can ask for."""

    START = "start"
    CANCEL = "cancel"
    STOP = "stop"
    KEEP = "keep"
    KEEP_FAILURE = "keep_failure"
    DISCARD = "discard"
    UNDO_LAST = "undo_last"
    ABORT = "abort"
    DELETE_LAST = "delete_last"
    LABEL_SUCCESS = "label_success"
    LABEL_FAILURE = "label_failure"
    LABEL_PRACTICE = "label_practice"
    NEXT_NOTE = "next_note"
    PREVIOUS_NOTE = "previous_note"


class Effect(StrEnum):
    """What the recorder has to do when a command is accepted."""

    NOTHING = "nothing"
    OPEN = "open"
    MARK_START = "mark_start"
    COUNT = "count"
    DROP = "drop"
    CLOSE = "close"
    COMMIT = "commit"
    COMMIT_FAILURE = "commit_failure"
    CLOSE_AND_TRASH = "close_and_trash"
    TRASH = "trash"
    TRASH_LAST = "trash_last"
    RESTORE = "restore"
    LABEL = "label"
    NOTE = "note"


@dataclasses.dataclass(frozen=True)
class Limits:
    """When recording is refused or ended.

    Attributes:
        max_episode_s: an episode ends by itself after this time, s.
        min_free_bytes: no start below this much free disk; half of it ends a running episode.
        countdown_s: between a start and the recording, s.
        preroll_s: the bag is open this long before the countdown ends, so that the first motion is not cut, s.
        strict: a failed stream ends a running episode.
        confirm_degraded: keeping an episode with failed streams must be asked for twice.
    """

    max_episode_s: float
    min_free_bytes: int
    countdown_s: float = 0.0
    preroll_s: float = 1.0
    strict: bool = False
    confirm_degraded: bool = False


@dataclasses.dataclass(frozen=True)
class Conditions:
    """What the decision depends on.

    Attributes:
        instruction: what the operator is about to show.
        stream_problems: phrases about needed topics that fail now.
        session_problem: why this instruction and rig do not belong into this directory; "" when they do.
        free_bytes: on the episode directory's disk.
        needed_bytes: what a start needs, from the episodes so far.
        elapsed_s: since the countdown, the running episode or the question began.
        is_open: the bag of a countdown is open already.
        can_undo: an episode was discarded since the last start.
        can_delete: an episode was kept in this session, and is still there.
        degraded: phrases about streams that failed during the episode under review.
        warned: a keep was refused because of them already.
    """

    instruction: str = ""
    stream_problems: tuple[str, ...] = ()
    session_problem: str = ""
    free_bytes: int = 2**63
    needed_bytes: int = 0
    elapsed_s: float = 0.0
    is_open: bool = False
    can_undo: bool = False
    can_delete: bool = False
    degraded: tuple[str, ...] = ()
    warned: bool = False


@dataclasses.dataclass(frozen=True)
class Decision:
    """The answer.

    Attributes:
        accepted: whether anything happens.
        state: the state after it.
        effect: what to do; None when refused.
        reason: why it was refused, or why an episode ended by itself.
        warns: the same command would be accepted now that the operator knows.
    """

    accepted: bool
    state: State
    effect: Effect | None = None
    reason: str = ""
    warns: bool = False


_BETWEEN_TRANSITIONS = {
    Command.START: (State.RECORDING, Effect.OPEN),
    Command.UNDO_LAST: (State.REVIEW, Effect.RESTORE),
    Command.DELETE_LAST: (State.CONFIRM, Effect.NOTHING),
}
_TRANSITIONS: dict[tuple[State, Command], tuple[State, Effect]] = {
    **{(state, command): step for state in BETWEEN for command, step in _BETWEEN_TRANSITIONS.items()},
    **dict.fromkeys(
        [(State.COUNTDOWN, c) for c in (Command.CANCEL, Command.DISCARD, Command.ABORT)], (State.READY, Effect.DROP)
    ),
    (State.RECORDING, Command.STOP): (State.REVIEW, Effect.CLOSE),
    (State.RECORDING, Command.ABORT): (State.REVIEW, Effect.CLOSE),
    (State.RECORDING, Command.DISCARD): (State.READY, Effect.CLOSE_AND_TRASH),
    (State.REVIEW, Command.KEEP): (State.READY, Effect.COMMIT),
    (State.REVIEW, Command.KEEP_FAILURE): (State.READY, Effect.COMMIT_FAILURE),
    (State.REVIEW, Command.DISCARD): (State.READY, Effect.TRASH),
    **dict.fromkeys(
        [(State.REVIEW, c) for c in (Command.LABEL_SUCCESS, Command.LABEL_FAILURE, Command.LABEL_PRACTICE)],
        (State.REVIEW, Effect.LABEL),
    ),
    (State.REVIEW, Command.NEXT_NOTE): (State.REVIEW, Effect.NOTE),
    (State.REVIEW, Command.PREVIOUS_NOTE): (State.REVIEW, Effect.NOTE),
    (State.CONFIRM, Command.DELETE_LAST): (State.READY, Effect.TRASH_LAST),
    (State.CONFIRM, Command.CANCEL): (State.READY, Effect.NOTHING),
}


def decide(state: State, command: Command, conditions: Conditions, limits: Limits) -> Decision:
    """Answer a command of the operator."""
    step = _TRANSITIONS.get((state, command))
    if step is None:
        possible = sorted(c.value for s, c in _TRANSITIONS if s is state)
        return Decision(False, state, reason=f"{command}: found state {state}, possible now: {', '.join(possible)}")
    if command is Command.START:
        reason = why_not_start(conditions, limits)
        if not reason and limits.countdown_s > 0:
            step = (State.COUNTDOWN, Effect.COUNT)
    else:
        reason = _why_not(command, state, conditions)
    if reason:
        return Decision(False, state, reason=reason)
    doubtful = limits.confirm_degraded and conditions.degraded and not conditions.warned
    if doubtful and command in (Command.KEEP, Command.KEEP_FAILURE):
        text = f"{command}: {'; '.join(conditions.degraded)}; ask again to keep it nevertheless"
        return Decision(False, state, reason=text, warns=True)
    return Decision(True, step[0], step[1])


def _why_not(command: Command, state: State, conditions: Conditions) -> str:
    if command is Command.UNDO_LAST and not conditions.can_undo:
        return "undo_last: found nothing discarded since the last start"
    if command is Command.DELETE_LAST and state in BETWEEN and not conditions.can_delete:
        return "delete_last: found no episode kept in this session"
    return ""


def why_not_start(conditions: Conditions, limits: Limits) -> str:
    """Why a start would be refused now; "" when it would be accepted."""
    if not conditions.instruction.strip():
        return "start: found an empty instruction, expected what is shown; set the parameter 'instruction'"
    if conditions.session_problem:
        return f"start: {conditions.session_problem}"
    if conditions.stream_problems:
        return f"start: {'; '.join(conditions.stream_problems)}; check the device and its driver"
    needed = max(limits.min_free_bytes, conditions.needed_bytes)
    if conditions.free_bytes < needed:
        found, wanted = conditions.free_bytes / 2**30, needed / 2**30
        return f"start: found {found:.2f} GiB free disk, expected {wanted:.2f} GiB; free some space"
    return ""


def watch(state: State, conditions: Conditions, limits: Limits) -> Decision | None:
    """What happens by itself; None when nothing does."""
    if state in BETWEEN:
        now = State.IDLE if why_not_start(conditions, limits) else State.READY
        return Decision(True, now, Effect.NOTHING) if now is not state else None
    if state is State.COUNTDOWN:
        return _watch_countdown(conditions, limits)
    if state is State.CONFIRM and conditions.elapsed_s >= CONFIRM_S:
        return Decision(True, State.READY, Effect.NOTHING)
    reason = _why_end(conditions, limits) if state is State.RECORDING else ""
    return Decision(True, State.REVIEW, Effect.CLOSE, reason) if reason else None


def _watch_countdown(conditions: Conditions, limits: Limits) -> Decision | None:
    left_s = limits.countdown_s - conditions.elapsed_s
    if conditions.stream_problems:
        reason = f"countdown cancelled: {'; '.join(conditions.stream_problems)}"
        return Decision(True, State.READY, Effect.DROP, reason)
    if not conditions.is_open and left_s <= max(limits.preroll_s, 0.0):
        return Decision(True, State.COUNTDOWN, Effect.OPEN)
    return Decision(True, State.RECORDING, Effect.MARK_START) if left_s <= 0 else None


def _why_end(conditions: Conditions, limits: Limits) -> str:
    if conditions.elapsed_s >= limits.max_episode_s:
        return f"ended after {limits.max_episode_s:g} s, the longest allowed"
    if conditions.free_bytes < limits.min_free_bytes / 2:
        return "ended because the disk is nearly full"
    if limits.strict and conditions.stream_problems:
        return f"ended because {'; '.join(conditions.stream_problems)}"
    return ""
