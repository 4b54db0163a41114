"""Watchdog, gripper decisions and homing, without ROS.

Regressions pinned: a watchdog that tripped while the arm stood still; one that braked harder than the arm's jerk limit;
one that was not scheduled itself and braked under a guard that had spoken all the time; one that heard nothing of the
guard, on another topic or behind a broken link, and called itself ready; a gripper that chattered around one half; a
goal per message that an action server could not keep up with.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robosteer_policy.guard.grip import GripDecision, GripRules
from robosteer_policy.guard.homing import HOME, homing_velocity, require_speed
from robosteer_policy.guard.watchdog import Watch, Watchdog
from robosteer_rig.errors import RobosteerError

from .panda import ACCELERATION_MAX, JERK_MAX, READY, limits

MS = 1_000_000


def test_a_guard_that_dies_in_motion_is_braked_inside_all_limits_within_0_15_rad():
    dog, now, travel = Watchdog(limits(), 0.05), 0, np.zeros(7)
    for _ in range(30):
        dog.hear(np.ones(7), now)
        assert dog.tick(now) is None
        now += 10 * MS
    velocity, acceleration, periods = np.ones(7), np.zeros(7), 0
    while dog.state is not Watch.TRIPPED:
        said = dog.tick(now)
        if said is not None:
            change = (said - velocity) / 0.01
            assert (np.abs(change) <= ACCELERATION_MAX + 1e-6).all()
            assert (np.abs(change - acceleration) / 0.01 <= JERK_MAX + 1e-3).all()
            velocity, acceleration = said, change
        travel, now, periods = travel + velocity * 0.01, now + 10 * MS, periods + 1
    assert periods * 0.01 <= 0.22
    assert travel.max() <= 0.15
    assert "fell silent at 1.00 rad/s" in dog.reason
    dog.hear(np.ones(7), now)
    for later_ms in (0, 600, 3_600_000):
        assert not dog.tick(now + later_ms * MS).any(), "tripped is latched, and zeros are repeated until the reset"
    dog.reset()
    dog.hear(np.zeros(7), now + 3_600_000 * MS)
    assert dog.trouble(now + 3_600_000 * MS) == ""
    assert dog.tick(now + 3_600_010 * MS) is None


def test_silence_at_rest_and_garbage_do_not_trip():
    dog = Watchdog(limits(), 0.05)
    dog.hear(np.zeros(7), 0)
    dog.hear([float("nan")] * 7, 0)
    dog.hear([1.0] * 6, 0)
    assert dog.tick(10**12) is None
    assert dog.state is Watch.WATCHING


def test_a_watchdog_that_hears_nothing_is_no_protection_and_says_so():
    dog = Watchdog(limits(), 0.05)
    assert dog.trouble(0) == "hears no commands of the guard"
    dog.hear(np.zeros(7), 0)
    assert dog.trouble(900 * MS) == ""
    assert dog.trouble(1100 * MS) == "hears no commands of the guard"
    dog.hear(np.ones(7), 2000 * MS)
    dog.tick(2000 * MS), dog.tick(2010 * MS), dog.tick(2100 * MS), dog.tick(2110 * MS)
    assert "fell silent at 1.00 rad/s" in dog.trouble(2110 * MS)


def test_a_watchdog_that_was_not_scheduled_reads_first_and_judges_then():
    dog = Watchdog(limits(), 0.05)
    dog.hear(np.ones(7), 0)
    assert dog.tick(10 * MS) is None
    assert dog.tick(210 * MS) is None, "what the guard said in these 200 ms still waits to be read: timers come first"
    dog.hear(np.ones(7), 210 * MS)
    for at_ms in range(220, 270, 10):
        assert dog.tick(at_ms * MS) is None
    assert dog.tick(270 * MS) is not None, "nothing waited, so the guard is dead"


def test_a_watchdog_is_needed_until_the_arm_rests():
    dog = Watchdog(limits(), 0.05)
    assert not dog.needed
    dog.hear(np.ones(7), 0)
    assert dog.needed
    dog.hear(np.zeros(7), 10 * MS)
    assert not dog.needed
    dog.hear(np.ones(7), 20 * MS)
    now = 30 * MS
    while dog.state is not Watch.TRIPPED:
        assert dog.needed
        dog.tick(now)
        now += 10 * MS
    assert not dog.needed


BINARY = GripRules()


def goals(positions, rules=BINARY, every_ms=20):
    decision, found = GripDecision(rules), []
    for k, position in enumerate(positions):
        decision.hear(position, k * every_ms * MS)
        goal = decision.due(k * every_ms * MS)
        if goal is not None:
            found.append(goal)
    return found


def test_hysteresis_and_debounce():
    assert goals([0.0] * 10 + [0.45, 0.55] * 20 + [0.9] * 30 + [0.55, 0.45] * 20 + [0.1] * 30) == [0.0, 1.0, 0.0]
    assert goals([0.0] * 20 + [1.0] * 2 + [0.0] * 20) == [0.0], "a glitch shorter than the debounce"


def test_following_sends_only_changes_that_count_and_always_reaches_the_ends():
    follow = GripRules(binary=False)
    assert goals([0.5] * 10 + [0.52] * 20 + [0.6] * 20, follow) == [0.5, 0.6]
    assert goals([0.97] * 20 + [1.0] * 20, follow) == [0.97, 1.0]


@pytest.mark.parametrize("rules", [BINARY, GripRules(binary=False)])
def test_a_position_that_is_no_number_is_no_wish(rules):
    assert goals([float("nan")] * 20, rules) == []
    assert goals([0.0] * 20 + [float("nan")] * 20, rules) == [0.0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-0.1, 1.1), min_size=1, max_size=300), st.booleans())
def test_goals_are_never_nearer_than_the_interval(positions, binary):
    decision, sent = GripDecision(GripRules(binary=binary)), []
    for k, position in enumerate(positions):
        decision.hear(position, k * 10 * MS)
        if decision.due(k * 10 * MS) is not None:
            sent.append(k * 10)
    assert all(b - a >= 200 for a, b in itertools.pairwise(sent))


def test_rules_are_checked():
    with pytest.raises(RobosteerError, match="gripper: found open_below"):
        GripRules(close_above=0.3)


def test_homing_arrives_slowly_and_straight():
    position, largest = READY + np.array([0.5, -0.3, 0.2, 0.4, 0.1, -0.2, 0.6]), 0.0
    periods = 0
    for _ in range(2000):
        velocity = homing_velocity(position, np.array(HOME), 0.3)
        if velocity is None:
            break
        largest = max(largest, np.abs(velocity).max())
        position, periods = position + velocity * 0.01, periods + 1
    assert periods < 600
    assert largest == pytest.approx(0.3)
    assert np.abs(position - HOME).max() < 0.01


@pytest.mark.parametrize("speed", [-0.3, 0.0, float("nan"), float("inf"), 2.0])
def test_a_speed_that_leads_away_from_home_is_refused(speed):
    with pytest.raises(RobosteerError, match="speed: found"):
        require_speed(speed)
