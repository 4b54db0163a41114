"""The episode state machine.

Pins: a command in the wrong state must change nothing; a start on a silent topic, a full disk or without an
instruction is refused with the reason; time and disk end an episode without losing it.
"""

import pytest

from robosteer_teleop.episodes import Command, Conditions, Effect, Limits, State, decide, watch

LIMITS = Limits(max_episode_s=60.0, min_free_bytes=2 * 2**30)
READY = Conditions(instruction="pick up red cube", can_undo=True)
ACCEPTED = {
    (State.IDLE, Command.START): (State.RECORDING, Effect.OPEN),
    (State.IDLE, Command.UNDO): (State.REVIEW, Effect.RESTORE),
    (State.RECORDING, Command.STOP): (State.REVIEW, Effect.CLOSE),
    (State.RECORDING, Command.DISCARD): (State.IDLE, Effect.CLOSE_AND_TRASH),
    (State.REVIEW, Command.KEEP): (State.IDLE, Effect.COMMIT_SUCCESS),
    (State.REVIEW, Command.KEEP_FAILURE): (State.IDLE, Effect.COMMIT_FAILURE),
    (State.REVIEW, Command.DISCARD): (State.IDLE, Effect.TRASH),
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("command", Command)
def test_the_whole_table(state, command):
    decision = decide(state, command, READY, LIMITS)
    if (state, command) in ACCEPTED:
        assert (decision.accepted, decision.state, decision.effect) == (True, *ACCEPTED[state, command])
    else:
        assert (decision.accepted, decision.state, decision.effect) == (False, state, None)
        assert f"{command}: found state {state}" in decision.reason


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        (Conditions(instruction="  "), "empty instruction"),
        (Conditions(instruction="x", stream_problems=("/left/image is silent for 2 s",)), "/left/image is silent"),
        (Conditions(instruction="x", free_bytes=2**30), "found 1.00 GiB free disk, expected 2.00 GiB"),
    ],
)
def test_refusals_name_the_reason(conditions, words):
    decision = decide(State.IDLE, Command.START, conditions, LIMITS)
    assert not decision.accepted
    assert words in decision.reason
    assert "\n" not in decision.reason


def test_undo_needs_something_discarded():
    assert not decide(State.IDLE, Command.UNDO, Conditions(), LIMITS).accepted


def test_time_and_disk_end_an_episode_into_review():
    for conditions in (Conditions(elapsed_s=60.0), Conditions(free_bytes=2**29)):
        decision = watch(State.RECORDING, conditions, LIMITS)
        assert decision is not None
        assert (decision.state, decision.effect) == (State.REVIEW, Effect.CLOSE)
        assert watch(State.REVIEW, conditions, LIMITS) is None
    assert watch(State.RECORDING, Conditions(elapsed_s=59.0), LIMITS) is None
