"""The life of an episode: which command is accepted in which state, and what it causes.

    idle --start--> recording --stop | time is up | disk low--> review --keep | keep_failure--> idle (count + 1)
                        |                                          |
                        +--------------- discard ------------------+--> idle (in the trash; undo --> review)

One pure function decides; services, headset buttons and keys all ask it. Nothing here touches ROS, the clock or
the disk.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum


class State(StrEnum):
    """Where an episode is."""

    IDLE = "idle"
    RECORDING = "recording"
    REVIEW = "review"


class Command(StrEnum):
    """What an operator can ask for."""

    START = "start"
    STOP = "stop"
    KEEP = "keep"
    KEEP_FAILURE = "keep_failure"
    DISCARD = "discard"
    UNDO = "undo"


class Effect(StrEnum):
    """What the recorder has to do when a command is accepted."""

    OPEN = "open"
    CLOSE = "close"
    COMMIT_SUCCESS = "commit_success"
    COMMIT_FAILURE = "commit_failure"
    CLOSE_AND_TRASH = "close_and_trash"
    TRASH = "trash"
    RESTORE = "restore"


@dataclasses.dataclass(frozen=True)
class Limits:
    """When recording is refused or ended.

    Attributes:
        max_episode_s: an episode ends by itself after this time, s.
        min_free_bytes: no start below this much free disk; half of it ends a running episode.
    """

    max_episode_s: float
    min_free_bytes: int


@dataclasses.dataclass(frozen=True)
class Conditions:
    """What the decision depends on.

    Attributes:
        instruction: what the operator is about to show.
        stream_problems: phrases about needed topics that fail now.
        free_bytes: on the episode directory's disk.
        elapsed_s: since the start of the running episode.
        can_undo: an episode was discarded since the last start.
    """

    instruction: str = ""
    stream_problems: tuple[str, ...] = ()
    free_bytes: int = 2**63
    elapsed_s: float = 0.0
    can_undo: bool = False


@dataclasses.dataclass(frozen=True)
class Decision:
    """The answer.

    Attributes:
        accepted: whether anything happens.
        state: the state after it.
        effect: what to do; None when refused.
        reason: why it was refused, or why an episode ended by itself.
    """

    accepted: bool
    state: State
    effect: Effect | None = None
    reason: str = ""


_TRANSITIONS: dict[tuple[State, Command], tuple[State, Effect]] = {
    (State.IDLE, Command.START): (State.RECORDING, Effect.OPEN),
    (State.RECORDING, Command.STOP): (State.REVIEW, Effect.CLOSE),
    (State.RECORDING, Command.DISCARD): (State.IDLE, Effect.CLOSE_AND_TRASH),
    (State.REVIEW, Command.KEEP): (State.IDLE, Effect.COMMIT_SUCCESS),
    (State.REVIEW, Command.KEEP_FAILURE): (State.IDLE, Effect.COMMIT_FAILURE),
    (State.REVIEW, Command.DISCARD): (State.IDLE, Effect.TRASH),
    (State.IDLE, Command.UNDO): (State.REVIEW, Effect.RESTORE),
}


def decide(state: State, command: Command, conditions: Conditions, limits: Limits) -> Decision:
    """Answer a command of the operator."""
    step = _TRANSITIONS.get((state, command))
    if step is None:
        possible = sorted(c.value for s, c in _TRANSITIONS if s is state)
        return Decision(False, state, reason=f"{command}: found state {state}, possible now: {', '.join(possible)}")
    reason = ""
    if command is Command.START:
        reason = _why_not_start(conditions, limits)
    elif command is Command.UNDO and not conditions.can_undo:
        reason = "undo: found nothing discarded since the last start"
    if reason:
        return Decision(False, state, reason=reason)
    return Decision(True, step[0], step[1])


def _why_not_start(conditions: Conditions, limits: Limits) -> str:
    if not conditions.instruction.strip():
        return "start: found an empty instruction, expected what is shown; set the parameter 'instruction'"
    if conditions.stream_problems:
        return f"start: {'; '.join(conditions.stream_problems)}; check the device and its driver"
    if conditions.free_bytes < limits.min_free_bytes:
        found, wanted = conditions.free_bytes / 2**30, limits.min_free_bytes / 2**30
        return f"start: found {found:.2f} GiB free disk, expected {wanted:.2f} GiB; free some space"
    return ""


def watch(state: State, conditions: Conditions, limits: Limits) -> Decision | None:
    """End a running episode whose time is up or whose disk is low; None when nothing is to be done."""
    if state is not State.RECORDING:
        return None
    if conditions.elapsed_s >= limits.max_episode_s:
        return Decision(
            True, State.REVIEW, Effect.CLOSE, f"ended after {limits.max_episode_s:g} s, the longest allowed"
        )
    if conditions.free_bytes < limits.min_free_bytes / 2:
        return Decision(True, State.REVIEW, Effect.CLOSE, "ended because the disk is nearly full")
    return None
