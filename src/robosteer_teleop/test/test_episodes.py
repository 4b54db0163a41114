"""The episode state machine, and what buttons and keys mean in it.

Pins: a command in the wrong state must change nothing; a start on a silent topic, a full disk, without an instruction
or in a directory of another task is refused with the reason; time, disk and a failed stream end an episode without
losing it; the first motion is not cut off by the countdown; one hold of a button discards one episode and not the one
before.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robosteer_teleop.buttons import KEYS, ButtonReader, HandAction, label_command
from robosteer_teleop.episodes import BETWEEN, Command, Conditions, Effect, Limits, State, decide, watch

LIMITS = Limits(max_episode_s=60.0, min_free_bytes=2 * 2**30, countdown_s=3.0, confirm_degraded=True)
READY = Conditions(instruction="pick up red cube", can_undo=True, can_delete=True)
ACCEPTED = {
    **{(state, Command.START): (State.COUNTDOWN, Effect.COUNT) for state in BETWEEN},
    **{(state, Command.UNDO_LAST): (State.REVIEW, Effect.RESTORE) for state in BETWEEN},
    **{(state, Command.DELETE_LAST): (State.CONFIRM, Effect.NOTHING) for state in BETWEEN},
    (State.COUNTDOWN, Command.CANCEL): (State.READY, Effect.DROP),
    (State.COUNTDOWN, Command.DISCARD): (State.READY, Effect.DROP),
    (State.COUNTDOWN, Command.ABORT): (State.READY, Effect.DROP),
    (State.RECORDING, Command.STOP): (State.REVIEW, Effect.CLOSE),
    (State.RECORDING, Command.ABORT): (State.REVIEW, Effect.CLOSE),
    (State.RECORDING, Command.DISCARD): (State.READY, Effect.CLOSE_AND_TRASH),
    (State.REVIEW, Command.KEEP): (State.READY, Effect.COMMIT),
    (State.REVIEW, Command.KEEP_FAILURE): (State.READY, Effect.COMMIT_FAILURE),
    (State.REVIEW, Command.DISCARD): (State.READY, Effect.TRASH),
    (State.REVIEW, Command.LABEL_SUCCESS): (State.REVIEW, Effect.LABEL),
    (State.REVIEW, Command.LABEL_FAILURE): (State.REVIEW, Effect.LABEL),
    (State.REVIEW, Command.LABEL_PRACTICE): (State.REVIEW, Effect.LABEL),
    (State.REVIEW, Command.NEXT_NOTE): (State.REVIEW, Effect.NOTE),
    (State.REVIEW, Command.PREVIOUS_NOTE): (State.REVIEW, Effect.NOTE),
    (State.CONFIRM, Command.DELETE_LAST): (State.READY, Effect.TRASH_LAST),
    (State.CONFIRM, Command.CANCEL): (State.READY, Effect.NOTHING),
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


def test_without_a_countdown_a_start_records_at_once():
    decision = decide(State.READY, Command.START, READY, Limits(60.0, 0))
    assert (decision.state, decision.effect) == (State.RECORDING, Effect.OPEN)


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        (Conditions(instruction="  "), "empty instruction"),
        (Conditions(instruction="x", stream_problems=("/left/image is silent for 2 s",)), "/left/image is silent"),
        (Conditions(instruction="x", free_bytes=2**30), "found 1.00 GiB free disk, expected 2.00 GiB"),
        (Conditions(instruction="x", free_bytes=4 * 2**30, needed_bytes=5 * 2**30), "expected 5.00 GiB"),
        (Conditions(instruction="x", session_problem="task: found 'x', expected 'y'"), "expected 'y'"),
    ],
)
def test_refusals_name_the_reason(conditions, words):
    decision = decide(State.IDLE, Command.START, conditions, LIMITS)
    assert not decision.accepted
    assert words in decision.reason
    assert "\n" not in decision.reason
    assert watch(State.READY, conditions, LIMITS).state is State.IDLE
    assert watch(State.IDLE, READY, LIMITS).state is State.READY


def test_undo_and_delete_need_an_episode():
    assert not decide(State.READY, Command.UNDO_LAST, Conditions(), LIMITS).accepted
    assert not decide(State.READY, Command.DELETE_LAST, Conditions(), LIMITS).accepted


def test_a_degraded_episode_is_kept_on_the_second_request():
    conditions = Conditions(degraded=("/left had a gap of 1 s",))
    refused = decide(State.REVIEW, Command.KEEP, conditions, LIMITS)
    assert (refused.accepted, refused.warns) == (False, True)
    assert "/left had a gap" in refused.reason
    assert decide(State.REVIEW, Command.KEEP, Conditions(degraded=conditions.degraded, warned=True), LIMITS).accepted
    assert decide(State.REVIEW, Command.KEEP, conditions, Limits(60.0, 0)).accepted


def test_time_disk_and_strict_streams_end_an_episode_into_review():
    failed = Conditions(stream_problems=("/left is silent",))
    for conditions in (Conditions(elapsed_s=60.0), Conditions(free_bytes=2**29)):
        decision = watch(State.RECORDING, conditions, LIMITS)
        assert decision is not None
        assert (decision.state, decision.effect) == (State.REVIEW, Effect.CLOSE)
        assert watch(State.REVIEW, conditions, LIMITS) is None
    assert watch(State.RECORDING, Conditions(elapsed_s=59.0), LIMITS) is None
    assert watch(State.RECORDING, failed, LIMITS) is None
    assert "/left is silent" in watch(State.RECORDING, failed, Limits(60.0, 0, strict=True)).reason


def test_the_bag_opens_before_the_countdown_ends():
    assert watch(State.COUNTDOWN, Conditions(elapsed_s=1.9), LIMITS) is None
    assert watch(State.COUNTDOWN, Conditions(elapsed_s=2.0), LIMITS).effect is Effect.OPEN
    assert watch(State.COUNTDOWN, Conditions(elapsed_s=2.5, is_open=True), LIMITS) is None
    begin = watch(State.COUNTDOWN, Conditions(elapsed_s=3.0, is_open=True), LIMITS)
    assert (begin.state, begin.effect) == (State.RECORDING, Effect.MARK_START)
    lost = watch(State.COUNTDOWN, Conditions(elapsed_s=1.0, stream_problems=("/left is silent",)), LIMITS)
    assert (lost.state, lost.effect) == (State.READY, Effect.DROP)


def test_a_question_that_nobody_answers_is_forgotten():
    assert watch(State.CONFIRM, Conditions(elapsed_s=4.9), LIMITS) is None
    assert watch(State.CONFIRM, Conditions(elapsed_s=5.0), LIMITS).effect is Effect.NOTHING


# Buttons ------------------------------------------------------------------------------------------------------------

OPEN = {"a": False, "b": False, "stick_click": False, "stick": (0.0, 0.0)}


def press(reader, now_s, state, **buttons):
    return reader.update(now_s, **(OPEN | buttons), state=state)


@pytest.fixture
def reader():
    reader = ButtonReader()
    press(reader, 0.0, State.READY)
    return reader


@pytest.mark.parametrize(
    ("state", "command"),
    [
        (State.READY, Command.START),
        (State.COUNTDOWN, Command.CANCEL),
        (State.RECORDING, Command.STOP),
        (State.REVIEW, Command.KEEP),
        (State.CONFIRM, Command.CANCEL),
    ],
)
def test_a_acts_once_per_press(reader, state, command):
    assert press(reader, 1.0, state, a=True) == [command]
    assert press(reader, 1.1, state, a=True) == []
    assert press(reader, 9.0, State.READY, a=True) == []


def test_one_hold_of_b_discards_one_episode(reader):
    assert press(reader, 1.0, State.RECORDING, b=True) == []
    assert press(reader, 1.5, State.RECORDING, b=True) == []
    assert press(reader, 1.7, State.RECORDING, b=True) == [Command.DISCARD]
    for now in (2.0, 3.0, 9.0):
        assert press(reader, now, State.READY, b=True) == []
    press(reader, 9.1, State.READY)
    assert press(reader, 10.0, State.READY, b=True) == []
    assert press(reader, 11.6, State.READY, b=True) == [Command.DELETE_LAST]
    assert press(reader, 12.0, State.CONFIRM, b=True) == []
    press(reader, 12.1, State.CONFIRM)
    assert press(reader, 12.2, State.CONFIRM, b=True) == [Command.DELETE_LAST]


def test_buttons_that_are_down_at_first_do_not_count():
    reader = ButtonReader()
    assert press(reader, 0.0, State.REVIEW, a=True, b=True, stick_click=True) == []
    press(reader, 0.1, State.REVIEW)
    assert press(reader, 0.2, State.REVIEW, b=True) == [Command.DISCARD]


def test_the_stick_labels_in_review_and_scales_before(reader):
    assert press(reader, 1.0, State.REVIEW, stick=(0.9, 0.0)) == [Command.LABEL_FAILURE]
    assert press(reader, 1.1, State.REVIEW, stick=(0.6, 0.0)) == []
    press(reader, 1.2, State.REVIEW)
    assert press(reader, 1.3, State.REVIEW, stick=(-0.9, 0.0)) == [Command.LABEL_PRACTICE]
    assert press(reader, 1.4, State.REVIEW, stick=(0.0, 0.9)) == [Command.NEXT_NOTE]
    press(reader, 1.5, State.READY)
    assert press(reader, 1.6, State.READY, stick=(0.0, -0.9)) == [HandAction.SCALE_UP]
    assert press(reader, 1.7, State.RECORDING, stick_click=True) == [HandAction.ALIGN]


def test_keys_mean_commands_and_labels_exist():
    assert set(KEYS.values()) <= set(Command)
    assert label_command("practice") is Command.LABEL_PRACTICE


@given(st.lists(st.sampled_from(list(Command)), max_size=40))
def test_every_way_leads_back_and_nothing_is_counted_twice(commands):
    """Opened episodes are as many as those that were filed plus the one still open."""
    state, balance = State.READY, 0
    for command in commands:
        decision = decide(state, command, READY, Limits(60.0, 0))
        state = decision.state
        if decision.effect in (Effect.OPEN, Effect.RESTORE):
            balance += 1
        if decision.effect in (Effect.COMMIT, Effect.COMMIT_FAILURE, Effect.TRASH, Effect.CLOSE_AND_TRASH, Effect.DROP):
            balance -= 1
        assert balance == (state in (State.RECORDING, State.REVIEW))
