"""Percentiles of recent durations, for state and diagnostics."""

from __future__ import annotations

from collections import deque

import numpy as np


class Timing:
    """The last durations of one kind."""

    def __init__(self, size: int = 500) -> None:
        self._seconds: deque[float] = deque(maxlen=size)

    def add(self, seconds: float) -> None:
        """Note one duration."""
        self._seconds.append(seconds)

    def median_s(self, default: float = 0.0) -> float:
        """Median in s; `default` before the first."""
        return float(np.median(self._seconds)) if self._seconds else default

    def quantile_s(self, share: float) -> float:
        """Duration that a share of the recent ones did not exceed, in s; 0 before the first."""
        return float(np.quantile(self._seconds, share)) if self._seconds else 0.0

    def milliseconds(self) -> dict[str, float]:
        """{p50, p95, p99, max} in ms; empty before the first."""
        if not self._seconds:
            return {}
        values = np.array(self._seconds) * 1e3
        found = dict(zip(("p50", "p95", "p99"), np.percentile(values, [50, 95, 99]), strict=True))
        return {name: round(float(value), 1) for name, value in (found | {"max": values.max()}).items()}
