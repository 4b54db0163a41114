"""Actions from commands.

Regressions pinned: point samples instead of means (integrated motion drifts); a command that was given once moves the
robot for ever in the dataset although the controller stops it; the command before the interval is forgotten.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robosteer_rig.actions import (
    CommandTrack,
    commanded_actions,
    idle_frames,
    interval_mean,
    interval_means,
    values_before,
    with_gripper,
)
from robosteer_rig.errors import RobosteerError

stamps = st.lists(st.integers(0, 200), min_size=0, max_size=12, unique=True).map(sorted)
edges = st.lists(st.integers(0, 200), min_size=2, max_size=8, unique=True).map(sorted)


def by_nanosecond(times, values, start, end, hold):
    """The definition, one nanosecond at a time."""
    total = 0.0
    for t in range(start, end):
        past = [i for i, stamp in enumerate(times) if stamp <= t]
        if past and (hold is None or t < times[past[-1]] + hold):
            total += values[past[-1]]
    return total / (end - start)


@settings(max_examples=150, deadline=None)
@given(stamps, edges, st.none() | st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_interval_means_equal_the_definition(times, cuts, hold, seed):
    values = np.random.default_rng(seed).normal(size=(len(times), 2))
    means = interval_means(np.array(times, dtype=np.int64), values, np.array(cuts), hold_ns=hold)
    expected = [[by_nanosecond(times, values[:, d], a, b, hold) for d in range(2)] for a, b in itertools.pairwise(cuts)]
    assert means == pytest.approx(np.array(expected), abs=1e-12)
    single = interval_mean(np.array(times, dtype=np.int64), values, cuts[0], cuts[1], hold_ns=hold)
    assert single == pytest.approx(means[0], abs=1e-15)


@settings(max_examples=60, deadline=None)
@given(stamps.filter(lambda s: len(s) > 0), edges, st.integers(0, 2**32 - 1))
def test_means_are_displacements(times, cuts, seed):
    """Merging intervals adds their displacements; the total does not depend on where the cuts are."""
    values = np.random.default_rng(seed).normal(size=(len(times), 1))
    fine = interval_means(np.array(times), values, np.array(cuts))
    coarse = interval_mean(np.array(times), values, cuts[0], cuts[-1])
    assert (fine[:, 0] * np.diff(cuts)).sum() == pytest.approx(coarse[0] * (cuts[-1] - cuts[0]), abs=1e-9)


def test_integrated_actions_reproduce_a_shaking_motion():
    """A 20 s reach with an 11.9 Hz tremor, commanded at 90 Hz and sampled at 6 Hz."""
    times = (np.arange(1800) * 1e9 / 90).astype(np.int64)
    seconds = times / 1e9
    velocity = 0.2 * np.sin(0.3 * seconds) + 0.5 * np.sin(2 * np.pi * 11.97 * seconds)
    cuts = (np.arange(121) * 1e9 / 6).astype(np.int64)
    held = np.diff(np.append(times, cuts[-1])) / 1e9
    travelled = (velocity * held).sum()
    means = interval_means(times, velocity[:, None], cuts)[:, 0]
    assert (means * np.diff(cuts) / 1e9).sum() == pytest.approx(travelled, abs=1e-9)
    points = velocity[np.searchsorted(times, cuts[:-1], side="right") - 1]
    assert abs((points * np.diff(cuts) / 1e9).sum() - travelled) > 0.02


@pytest.mark.parametrize(
    ("times", "values", "cuts"),
    [([0, 0], [[1.0], [2.0]], [0, 1]), ([0], [[1.0]], [1, 1]), ([0], [[1.0]], [5]), ([0, 1], [[1.0]], [0, 1])],
)
def test_disordered_input_is_one_error(times, values, cuts):
    with pytest.raises(RobosteerError):
        interval_means(np.array(times), np.array(values), np.array(cuts))


def test_gripper_is_the_command_at_the_end_of_the_interval():
    found = values_before(np.array([10, 20]), np.array([0.0, 1.0]), np.array([10, 11, 20, 21]), np.full(4, 0.5))
    assert found.tolist() == [0.5, 0.0, 0.0, 1.0]
    assert values_before(np.zeros(0), np.zeros(0), np.array([3]), np.array([0.7])).tolist() == [0.7]


def test_derived_actions_are_normalised_and_stop_with_the_commands():
    arm, gripper = CommandTrack(7), CommandTrack(1)
    step = 66_666_667
    arm.append(step, np.full(7, 1.5))
    arm.append(0, np.zeros(7))  # arrived late
    arm.append(step, np.full(7, 3.0))  # the same stamp again: the last one counts
    gripper.append(step + 5, np.array([1.0]))
    cuts = np.arange(7) * step
    joints = commanded_actions(arm, cuts, unit_rad_per_s=3.0, hold_ns=2 * step)
    actions = with_gripper(joints, gripper, cuts, np.full(6, 0.4))
    assert actions.dtype == np.float32
    assert actions[:, 0].tolist() == [0, 1, 1, 0, 0, 0]
    assert actions[:, 7] == pytest.approx([0.4, 1, 1, 1, 1, 1])
    assert idle_frames(actions).tolist() == [True, False, False, True, True, True]
    assert idle_frames(np.zeros((0, 8))).tolist() == []


def test_no_command_at_all_is_rest():
    joints = commanded_actions(CommandTrack(7), np.arange(4), unit_rad_per_s=3.0, hold_ns=1)
    actions = with_gripper(joints, CommandTrack(1), np.arange(4), np.ones(3))
    assert (actions[:, :7] == 0).all()
    assert idle_frames(actions).all()
