"""What sources of motion make of the guard's status.

Regressions pinned: a guard that had been killed counted as armed for ever; one message of a stranger (no JSON, no
object, brackets without end) ended every node that listened; a guard that obeys another source counted as obeying this
one.
"""

import json

import pytest

from robosteer_rig.guard_status import MAX_SILENCE_S, GuardStatus


def said(**changes):
    status = {"schema": "robosteer.guard/1", "state": "armed", "source": "teleop", "pending_source": None}
    return json.dumps(status | {"reason": "r"} | changes)


def test_an_armed_guard_that_obeys_this_source_is_no_trouble_until_it_falls_silent():
    status = GuardStatus("teleop")
    assert status.trouble(0.0).startswith("guard: heard nothing yet")
    status.hear(said(), 10.0)
    assert status.trouble(10.0 + MAX_SILENCE_S) == ""
    assert status.trouble(10.1 + MAX_SILENCE_S).startswith("guard: silent for 3 s")


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"state": "fault"}, "guard: fault (r)"),
        ({"state": "disarmed"}, "guard: disarmed (r)"),
        ({"source": "policy"}, "guard: obeys policy"),
        ({"pending_source": "policy"}, "guard: obeys teleop"),
    ],
)
def test_what_forbids_motion_is_said(changes, phrase):
    status = GuardStatus("teleop")
    status.hear(said(**changes), 0.0)
    assert status.trouble(0.0).startswith(phrase)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"state": "fault"}', '{"schema": 5}', "[" * 100_000, "9" * 5000])
def test_what_is_not_its_status_changes_nothing(text):
    status = GuardStatus("teleop")
    status.hear(said(), 0.0)
    status.hear(text, 1.0)
    assert status.trouble(1.0) == ""
    assert status.state == "armed"
