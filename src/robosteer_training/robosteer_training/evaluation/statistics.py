"""Intervals and tests for success counts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Z_95 = 1.959963984540054


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of a success probability (Wilson 1927).

    Args:
        successes: number of successes, 0 ... trials.
        trials: number of independent trials, at least 1.
        z: quantile of the normal distribution; the default gives 95 %.

    Returns:
        (low, high), both in [0, 1].
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"successes={successes}, trials={trials}")
    rate = successes / trials
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    centre = rate + z * z / (2 * trials)
    scale = 1 + z * z / trials
    # At 0 and at all successes the formula touches the bound exactly; rounding must not leave [0, 1].
    low = 0.0 if successes == 0 else max(0.0, (centre - spread) / scale)
    high = 1.0 if successes == trials else min(1.0, (centre + spread) / scale)
    return low, high


def mcnemar_exact(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Two-sided exact McNemar test of two policies tried on the same scenes.

    Args:
        first: success of policy one, per scene.
        second: success of policy two, same scenes, same order.

    Returns:
        p-value; 1.0 when no scene separates them.
    """
    if len(first) != len(second):
        raise ValueError(f"first has {len(first)} trials, second {len(second)}")
    gained = sum(b and not a for a, b in zip(first, second, strict=True))
    lost = sum(a and not b for a, b in zip(first, second, strict=True))
    discordant = gained + lost
    if discordant == 0:
        return 1.0
    tail = sum(math.comb(discordant, i) for i in range(min(gained, lost) + 1)) / 2**discordant
    return min(1.0, 2 * tail)


def describe_rate(successes: int, trials: int) -> str:
    """For people: `14/20 = 70 % (95 % interval 48-85 %)`."""
    low, high = wilson_interval(successes, trials)
    return f"{successes}/{trials} = {100 * successes / trials:.0f} % (95 % interval {100 * low:.0f}-{100 * high:.0f} %)"


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979), in the order given."""
    order, adjusted, largest = sorted(range(len(p_values)), key=lambda i: p_values[i]), [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def paired_bootstrap(
    first: Sequence[bool],
    second: Sequence[bool],
    groups: Sequence[object],
    *,
    samples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile interval of the difference of two success rates, second minus first.

    Pairs are drawn again by group: trials in one grid cell resemble each other, so the cells are what was sampled.

    Args:
        first: success of policy one, per scene.
        second: success of policy two, same scenes, same order.
        groups: what each scene belongs to; all different where every scene stands for itself.
        samples: draws.
        seed: of the draws.

    Returns:
        (low, high), in [-1, 1].
    """
    if not len(first) == len(second) == len(groups) > 0:
        raise ValueError(f"first has {len(first)} trials, second {len(second)}, groups {len(groups)}")
    known = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    gain, count = np.zeros(len(known)), np.zeros(len(known))
    for a, b, group in zip(first, second, groups, strict=True):
        gain[known[group]] += int(b) - int(a)
        count[known[group]] += 1
    picks = np.random.default_rng(seed).integers(len(known), size=(samples, len(known)))
    differences = gain[picks].sum(1) / count[picks].sum(1)
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)


def crossed_bootstrap(blocks: Sequence[np.ndarray], *, samples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of a mean over things that differ in two ways at once, such as trainings and grid cells.

    Rows and columns of each block are drawn again independently (the pigeonhole bootstrap, Owen 2007: it errs, if at
    all, towards wide intervals).

    Args:
        blocks: (G_i, N_i) numbers each, one row per grid cell and one column per training; of equal weight.
        samples: draws.
        seed: of the draws.

    Returns:
        (low, high).
    """
    if not blocks or any(block.ndim != 2 or not block.size for block in blocks):
        raise ValueError(f"blocks of shapes {[block.shape for block in blocks]}")
    random, means = np.random.default_rng(seed), np.zeros(samples)
    for block in blocks:
        cells, trainings = (random.multinomial(n, np.full(n, 1 / n), samples) / n for n in block.shape)
        means += np.einsum("sg,gn,sn->s", cells, block, trainings) / len(blocks)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
