"""A curve in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 20) -> str:
    """The means of `width` equal parts of a curve as bars, on a logarithmic scale when all values are positive."""
    numbers = np.asarray([value for value in values if math.isfinite(value)], float)
    if not numbers.size:
        return ""
    means = np.array([part.mean() for part in np.array_split(numbers, min(width, numbers.size))])
    heights = np.log(means) if (means > 0).all() else means
    span = heights.max() - heights.min()
    level = np.zeros(len(heights)) if span == 0 else (heights - heights.min()) / span
    return "".join(_BARS[int(x)] for x in np.rint(level * (len(_BARS) - 1)))
