"""Intervals and tests for success counts."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
