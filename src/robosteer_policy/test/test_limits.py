"""The limiter: no wish, however wild, leaves velocity, acceleration, jerk or position limits.

Regressions pinned: jerk reached zero velocity with acceleration left over and swung through it; a joint pressed against
its limit was slowed alone, so that the arm left the commanded direction; rounding noise kept the command from being
exactly zero, so that rest was never recognised.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robosteer_policy.guard.limits import Limiter, Limits, arm_limits, ramp_peak
from robosteer_rig.errors import RobosteerError
from robosteer_rig.parts import VelocityEnvelope
from robosteer_rig.rig import load_rig

from .panda import ACCELERATION_MAX, JERK_MAX, POSITION_MAX, POSITION_MIN, READY, RIG, VELOCITY_MAX, limits

# Jerk limits that bite at 100 Hz (the arm's own do not: 3750 rad/s^3 change 37 rad/s^2 per period).
SOFT_JERK = JERK_MAX / 40

wishes = st.lists(
    st.one_of(
        st.lists(st.floats(-4, 4), min_size=7, max_size=7),
        st.lists(st.floats(-1e300, 1e300), min_size=7, max_size=7),
        st.just([0.0] * 7),
        st.just([1e-320] * 7),
    ),
    min_size=1,
    max_size=8,
)
starts = st.lists(st.floats(0.02, 0.98), min_size=7, max_size=7)
ROUND = 1e-6


def play(limiter: Limiter, position: np.ndarray, wish: list[float] | np.ndarray, periods: int) -> np.ndarray:
    """Send a wish for some periods to an arm that follows exactly; check every limit in every period."""
    limits = limiter.limits
    for _ in range(periods):
        before, acceleration = limiter.velocity, limiter.acceleration
        velocity = limiter.step(wish, position)
        now = (velocity - before) / limits.period_s
        assert (np.abs(velocity) <= limits.velocity_max + ROUND).all()
        assert (np.abs(now) <= limits.acceleration_max + ROUND).all()
        assert (np.abs(now - acceleration) / limits.period_s <= limits.jerk_max + 1e-3).all()
        position = position + velocity * limits.period_s
        assert (position >= limits.position_min).all()
        assert (position <= limits.position_max).all()
    return position


@settings(max_examples=30, deadline=None)
@given(wishes, starts, st.sampled_from([JERK_MAX, SOFT_JERK]))
def test_any_wish_stays_inside_all_limits_and_silence_ends_in_rest(sequence, start, jerk):
    limiter = Limiter(limits(jerk))
    position = POSITION_MIN + np.array(start) * (POSITION_MAX - POSITION_MIN)
    for wish in sequence:
        position = play(limiter, position, wish, 25)
    speed = np.abs(limiter.velocity)
    slowest = (VELOCITY_MAX / ACCELERATION_MAX + 3 * ACCELERATION_MAX / jerk).max() + 0.05
    periods = int(np.ceil(slowest / limiter.limits.period_s))
    play(limiter, position, np.zeros(7), periods)
    assert limiter.at_rest, (speed, limiter.velocity)


@pytest.mark.parametrize("direction", [1, -1])
def test_rest_from_1_rad_per_s_takes_140_ms_on_the_weakest_joint(direction):
    limiter = Limiter(limits())
    position = play(limiter, READY, np.full(7, direction * 1.0), 20)
    np.testing.assert_allclose(limiter.velocity, direction * 1.0)
    play(limiter, position, np.zeros(7), 14)
    assert limiter.at_rest


def test_the_whole_vector_is_scaled_so_direction_is_kept():
    limiter = Limiter(limits())
    wish = np.array([4.0, -2.0, 1.0, 0.5, 0.0, -0.1, 3.0])
    for _ in range(30):
        velocity = limiter.step(wish, READY)
        np.testing.assert_allclose(velocity / velocity[0], wish / wish[0], atol=1e-9)
    np.testing.assert_allclose(velocity[0], VELOCITY_MAX[0])
    assert limiter.limited


@pytest.mark.parametrize("jerk", [JERK_MAX, SOFT_JERK])
@pytest.mark.parametrize("sign", [1, -1])
def test_running_into_a_position_limit_stops_before_it_without_oscillating(sign, jerk):
    limiter = Limiter(limits(jerk))
    wish = np.zeros(7)
    wish[3] = sign * 2.0
    position = play(limiter, READY, wish, 300)
    edge = POSITION_MAX[3] if sign > 0 else POSITION_MIN[3]
    assert 0.015 < abs(edge - position[3]) < 0.05
    assert abs(limiter.velocity[3]) < 0.02
    velocities = [limiter.step(wish, position)[3] for _ in range(50)]
    assert max(velocities) - min(velocities) < 0.02


def test_a_joint_that_is_already_outside_may_only_come_back():
    limiter = Limiter(limits())
    outside = READY.copy()
    outside[3] = POSITION_MAX[3] + 0.01
    for _ in range(20):
        assert limiter.step(np.eye(7)[3], outside)[3] == 0
    for _ in range(20):
        back = limiter.step(-np.eye(7)[3], outside)
    assert back[3] < -0.5


def test_rest_is_exact_zeros_and_a_jump_of_the_measured_position_brakes():
    limiter = Limiter(limits())
    position = play(limiter, READY, [0.37] * 7, 50)
    position = position + 10.0
    for _ in range(20):
        velocity = limiter.step([0.37] * 7, position)
    assert velocity.tolist() == [0.0] * 7


def test_ramp_peak_is_the_largest_start_of_a_staircase():
    for total in np.linspace(0, 2, 41):
        peak = float(ramp_peak(np.array(total), np.array(0.3), 0.1))
        stairs = np.arange(peak, 0, -0.3) if peak > 0 else np.zeros(1)
        assert stairs.sum() * 0.1 == pytest.approx(total, abs=1e-9)


FR3 = Limits(
    np.array([-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159]),
    np.array([2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159]),
    np.array([2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26]),
    np.full(7, 10.0),
    np.full(7, 5000.0),
    envelope=VelocityEnvelope(
        offset=(0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35),
        gain=(12.0, 5.17, 7.0, 8.0, 34.0, 11.0, 34.0),
        lower_zero=(-2.7501, -1.7918, -2.9065, -3.0481, -2.8101, 0.54092, -3.0196),
        upper_zero=(2.7501, 1.7918, 2.9065, -0.1458, 2.8101, 4.5205, 3.0196),
    ),
)


@settings(max_examples=15, deadline=None)
@given(wishes, starts)
def test_the_velocity_envelope_of_fr3_holds_at_every_position(sequence, start):
    limiter = Limiter(FR3)
    position = FR3.position_min + 0.05 + np.array(start) * (FR3.position_max - FR3.position_min - 0.1)
    for wish in sequence:
        for _ in range(25):
            position = play(limiter, position, wish, 1)
            down, up = FR3.speeds(position)
            assert (limiter.velocity <= up + ROUND).all()
            assert (limiter.velocity >= -down - ROUND).all()


def test_a_speed_limit_lowers_every_joint():
    rig = load_rig(RIG)
    assert arm_limits(rig.arm, 0.01).velocity_max.tolist() == list(rig.arm.velocity_max)
    assert arm_limits(rig.arm, 0.01, 0.3).velocity_max.tolist() == [0.3] * 7
    with pytest.raises(RobosteerError, match="velocity_max"):
        arm_limits(rig.arm, 0.01, 0.0)


def test_impossible_limits_are_refused_with_one_line():
    with pytest.raises(RobosteerError, match=r"acceleration_max: found .* expected positive"):
        Limits(POSITION_MIN, POSITION_MAX, VELOCITY_MAX, 0 * ACCELERATION_MAX, JERK_MAX)
    with pytest.raises(RobosteerError, match=r"jerk_max: found .* finite"):
        Limits(POSITION_MIN, POSITION_MAX, VELOCITY_MAX, ACCELERATION_MAX, JERK_MAX * np.nan)
    with pytest.raises(RobosteerError, match="between the margins"):
        Limits(POSITION_MIN, POSITION_MIN, VELOCITY_MAX, ACCELERATION_MAX, JERK_MAX)
