"""The countdown's pre-roll, and what may be added to a directory of episodes.

Pins: the first motion is cut off, or the countdown passes for a part of the demonstration; a cancelled countdown counts
as an episode; episodes of two tasks in one directory without anybody's asking for it.
"""

import pytest

from robosteer_teleop.episode_record import read_episode_json
from robosteer_teleop.episodes import Command, Limits, State

from .test_session import Rehearsal

COUNTDOWN = Limits(60.0, 0, countdown_s=3.0, preroll_s=1.0)


@pytest.fixture
def make(tmp_path, rig, messages):
    """Return a function that starts the recorder on the same directory once more."""
    started = []

    def make(**options):
        for earlier in started:
            earlier.store.close()
        started[:] = [Rehearsal(tmp_path / "demos", rig, messages, **options)]
        started[0].run(2.0)
        return started[0]

    yield make
    started[0].store.close()


def record(rehearsal, instruction="pick up red cube"):
    assert rehearsal.ask(Command.START, instruction).accepted
    rehearsal.run(1.0)
    rehearsal.ask(Command.STOP)
    return read_episode_json(rehearsal.ask(Command.KEEP).path)


def test_the_bag_opens_a_second_before_the_marked_start(make):
    rehearsal = make(limits=COUNTDOWN)
    assert rehearsal.ask(Command.START).state is State.COUNTDOWN
    rehearsal.run(1.5)
    assert not list(rehearsal.store.partial.iterdir())
    rehearsal.run(1.0)
    assert rehearsal.session.state is State.COUNTDOWN
    assert list(rehearsal.store.partial.iterdir())
    rehearsal.run(2.5)
    rehearsal.ask(Command.STOP)
    content = read_episode_json(rehearsal.ask(Command.KEEP).path)
    preroll_s = (content["markers"]["start_ns"] - content["start_ns"]) * 1e-9
    assert preroll_s == pytest.approx(1.0, abs=0.21)  # the test's messages are 0.1 s apart
    assert (content["end_ns"] - content["markers"]["start_ns"]) * 1e-9 == pytest.approx(2.0, abs=0.21)


def test_a_cancelled_countdown_is_no_episode(make):
    rehearsal = make(limits=COUNTDOWN)
    rehearsal.ask(Command.START)
    rehearsal.run(2.5)
    assert rehearsal.ask(Command.CANCEL).state is State.READY
    status = rehearsal.session.status(rehearsal.now)
    assert (status["kept"], status["discarded"], status["episode"]) == (0, 0, 1)
    assert not rehearsal.ask(Command.UNDO_LAST).accepted
    assert rehearsal.store.episodes() == []


def test_the_same_task_resumes_its_session(make):
    first, second = record(make()), record(make())
    assert (first["session"], second["episode"]) == (second["session"], 1)


def test_another_task_is_refused_unless_it_is_allowed(make):
    first = record(make())
    refused = make().ask(Command.START, "open the drawer")
    assert not refused.accepted
    assert "task: found 'open the drawer', expected 'pick up red cube'" in refused.reason
    other = record(make(allow_change=True), "open the drawer")
    assert other["instruction"] == "open the drawer"
    assert other["session"] != first["session"]
