"""Interlocks: a deadman, a watchdog and a proved limiter decide whether the arm may move.

Regressions pinned: a deadman that went silent counted as held; releasing it and pressing it again went on without a
person's arming; a limiter proved once was believed for ever, or as long as another node answered; `True` and `true`
were different proofs; the gripper closed while the deadman was released.
"""

import pytest

from robosteer_policy.guard.gate import Gate, Source, State
from robosteer_policy.guard.interlocks import Interlock
from robosteer_policy.guard.proof import Answers, Requirement, parse_requirements, unproved
from robosteer_policy.guard.settings import GuardSettings
from robosteer_rig.errors import RobosteerError

from .panda import JOINTS, limits
from .test_gate import Bench


class Guarded(Bench):
    """A bench whose gate has a deadman."""

    def __init__(self):
        super().__init__(armed=False)
        self.deadman = Interlock("deadman", 0.1)
        self.gate = Gate(JOINTS, limits(), GuardSettings(), Source.POLICY, [self.deadman])
        self.period()

    def go(self, periods, problem=""):
        for _ in range(periods):
            if problem is not None:
                self.deadman.hear(problem, self.now)
            self.say([1.0] * 7)
            self.period()


def test_nothing_moves_before_the_deadman_is_held():
    bench = Guarded()
    assert bench.gate.arm(bench.now) == "deadman: heard nothing yet"
    bench.deadman.hear("released", bench.now)
    assert bench.gate.arm(bench.now) == "deadman: released"
    bench.deadman.hear("", bench.now)
    assert bench.gate.arm(bench.now) == ""
    bench.go(60)
    assert bench.velocity[0] == pytest.approx(1.0)


@pytest.mark.parametrize(("problem", "reason"), [("released", "deadman: released"), (None, "deadman: silent for")])
def test_release_and_silence_latch_and_arming_again_is_needed(problem, reason):
    bench = Guarded()
    bench.deadman.hear("", bench.now)
    bench.gate.arm(bench.now)
    bench.go(60)
    start = bench.position.copy()
    bench.go(40, problem)
    assert bench.gate.state is State.FAULT
    assert reason in bench.gate.reason
    assert not bench.velocity.any()
    assert (bench.position - start).max() < 0.2
    bench.go(30)
    assert not bench.velocity.any(), "pressing again is not arming"
    assert bench.gate.arm(bench.now) == ""
    bench.go(60)
    assert bench.velocity[0] == pytest.approx(1.0)


def test_a_release_at_rest_is_no_fault():
    bench = Guarded()
    bench.deadman.hear("", bench.now)
    bench.gate.arm(bench.now)
    for _ in range(50):
        bench.period()
    assert bench.gate.state is State.ARMED


def test_the_gripper_moves_only_while_the_deadman_is_held():
    bench = Guarded()
    bench.deadman.hear("", bench.now)
    bench.gate.arm(bench.now)
    assert bench.gate.on_gripper(Source.POLICY, 0.2, bench.now) == ""
    bench.deadman.hear("released", bench.now)
    assert bench.gate.on_gripper(Source.POLICY, 1.0, bench.now) == "deadman: released"
    assert bench.gate.gripper.due(bench.steady) == 0.2
    assert bench.gate.state is State.ARMED, "nothing moved"


NEEDS = parse_requirements(["/controller_manager:enforce_command_limits=true", " ", "/filter:rate=0.01"])


@pytest.mark.parametrize(
    ("limit", "rate", "phrase"),
    [
        (True, 0.01, ""),
        (False, 0.01, "/controller_manager has enforce_command_limits=false, expected true"),
        (None, 0.01, "/controller_manager does not say enforce_command_limits"),
        (True, 0.5, "/filter has rate=0.5, expected 0.01"),
    ],
)
def test_a_limiter_is_proved_by_every_parameter(limit, rate, phrase):
    found = {("/controller_manager", "enforce_command_limits"): limit, ("/filter", "rate"): rate}
    assert unproved(NEEDS, found).startswith(phrase)
    assert bool(unproved(NEEDS, found)) == bool(phrase)


def test_a_node_that_no_longer_answers_proves_nothing_whoever_else_does():
    answers, second = Answers(max_age_s=5.0), 1_000_000_000
    answers.take("/controller_manager", {"enforce_command_limits": True}, 0)
    for now_s in range(20):
        answers.take("/filter", {"rate": 0.01}, now_s * second)
        trouble = unproved(NEEDS, answers.fresh(now_s * second))
        assert trouble.startswith("/controller_manager does not say") == (now_s > 5), trouble


def test_requirements_are_parsed_strictly():
    assert NEEDS[0] == Requirement("/controller_manager", "enforce_command_limits", "true")
    for line in ("controller_manager:x=1", "/node:x", "/node=x", "yes"):
        with pytest.raises(RobosteerError, match="limiter_proof: found"):
            parse_requirements([line])
