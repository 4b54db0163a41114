"""Pins: intervals that leave [0, 1], a spread of cells with repeats, a paired test that ignores pairing, a
bootstrap that takes trials in one cell for independent, p-values adjusted out of order."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robosteer_training.evaluation.scenes import spread_cells
from robosteer_training.evaluation.statistics import (
    crossed_bootstrap,
    describe_rate,
    holm,
    mcnemar_exact,
    paired_bootstrap,
    wilson_interval,
)


def test_wilson_interval_matches_published_values():
    # Newcombe 1998, table I: 81/263 gives 0.2553 to 0.3662; 0/20 gives 0 to 0.1611.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_contains_the_rate_and_stays_a_probability(counts):
    low, high = wilson_interval(*counts)
    assert 0 <= low <= counts[0] / counts[1] <= high <= 1


def test_wilson_interval_refuses_impossible_counts():
    with pytest.raises(ValueError, match="successes=3"):
        wilson_interval(3, 2)


def test_mcnemar_counts_only_discordant_pairs():
    same = [True] * 50
    assert mcnemar_exact(same, same) == 1.0
    # 8 gained, none lost: 2 * 0.5^8; the 50 concordant pairs must not matter.
    assert mcnemar_exact([False] * 8 + same, [True] * 8 + same) == pytest.approx(2 * 0.5**8)
    assert mcnemar_exact([True] * 8 + same, [False] * 8 + same) == pytest.approx(2 * 0.5**8)


@given(st.integers(1, 40))
def test_spread_cells_are_different_and_inside_the_grid(count):
    cells = spread_cells(count)
    assert len(set(cells)) == count
    assert 0 <= min(cells) <= max(cells) < 40


def test_rate_reads_well():
    assert describe_rate(14, 20) == "14/20 = 70 % (95 % interval 48-85 %)"
    assert math.isclose(wilson_interval(14, 20)[0], 0.481, abs_tol=1e-3)


def test_bootstrap_interval_of_a_known_case():
    # 40 pairs of which 20 differ in favour of the second: standard error of the mean of +1 and 0 is sqrt(.25 / 40).
    low, high = paired_bootstrap([False] * 40, [True, False] * 20, range(40))
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.079, 0.5 + 1.96 * 0.079), abs=0.03)
    # The same pairs, but trials of one cell agree: four cells know much less than forty.
    low4, high4 = paired_bootstrap([False] * 40, [True] * 20 + [False] * 20, [i // 10 for i in range(40)])
    assert high4 - low4 > 2 * (high - low)
    assert paired_bootstrap([True] * 5, [True] * 5, range(5)) == (0.0, 0.0)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_bootstrap_swaps_sign_with_the_policies(pairs):
    first, second = zip(*pairs, strict=True)
    low, high = paired_bootstrap(first, second, range(len(pairs)), samples=200)
    other = paired_bootstrap(second, first, range(len(pairs)), samples=200)
    assert other == pytest.approx((-high, -low))
    assert -1 <= low <= high <= 1


def test_holm_matches_a_hand_worked_example():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_crossed_bootstrap_counts_trainings_not_trials():
    """Forty cells cannot make up for three trainings that disagree; trainings that agree add nothing to the cells."""
    random = np.random.default_rng(0)
    cells = random.normal(0.3, 0.1, (40, 1))
    agree, disagree = np.repeat(cells, 3, axis=1), cells + np.array([-0.2, 0.0, 0.2])
    alone = crossed_bootstrap([cells])
    assert crossed_bootstrap([agree]) == pytest.approx(alone, abs=0.005)
    low, high = crossed_bootstrap([disagree])
    assert high - low > 4 * (alone[1] - alone[0])
    assert low < cells.mean() < high
    # Many trainings, and cells that do not matter: the interval is that of their mean.
    low, high = crossed_bootstrap([0.3 + random.normal(0, 0.2, (1, 400)) * np.ones((40, 1))])
    assert high - low == pytest.approx(2 * 1.96 * 0.2 / 20, rel=0.15)
    with pytest.raises(ValueError, match="blocks of shapes"):
        crossed_bootstrap([])
