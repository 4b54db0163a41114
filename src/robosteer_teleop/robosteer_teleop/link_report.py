"""What `robosteer teleop doctor` measures about a headset's link. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from robosteer_teleop.server.link import LinkEvent, LinkEventKind, ReceivedFrame

PERCENTILES = (50, 95, 99, 100)


class LinkReport:
    """Collects frames and events of one run and sums them up.

    Intervals are kept within a connection and an XR session only: taking the headset off is no gap of the network.
    """

    def __init__(self) -> None:
        self._intervals_s: list[float] = []
        self._ages_s: list[float] = []
        self._last: ReceivedFrame | None = None
        self._emulated = 0
        self._skipped = 0
        self._frames = 0
        self._events: Counter[str] = Counter()
        self._profiles: set[str] = set()

    def frame(self, received: ReceivedFrame) -> None:
        """Count a frame."""
        last = self._last
        if last is not None and last.session == received.session and received.frame.seq > last.frame.seq:
            self._intervals_s.append(received.received_s - last.received_s)
            self._skipped += received.frame.seq - last.frame.seq - 1
        if received.pose_age_s is not None:
            self._ages_s.append(received.pose_age_s)
        self._emulated += received.frame.emulated
        self._frames += 1
        self._last = received

    def event(self, event: LinkEvent) -> None:
        """Count an event."""
        name = str(event.kind)
        if event.kind is LinkEventKind.VISIBILITY:
            name = f"{name}: {event.detail['state']}"
        if event.kind is LinkEventKind.SESSION_STARTED:
            self._profiles.add(event.detail["profile"])
        if event.kind in (LinkEventKind.SESSION_ENDED, LinkEventKind.OPERATOR_DISCONNECTED):
            self._last = None
        self._events[name] += 1

    def summary(self) -> dict[str, Any]:
        """Everything measured; times in ms."""
        mean_s = float(np.mean(self._intervals_s)) if self._intervals_s else 0.0
        return {
            "frames": self._frames,
            "rate_hz": round(1.0 / mean_s, 2) if mean_s else 0.0,
            "interval_ms": percentiles_ms(self._intervals_s),
            "pose_age_ms": percentiles_ms(self._ages_s),
            "gaps_over_100_ms": int(np.sum(np.array(self._intervals_s) > 0.1)),
            "skipped_by_client": self._skipped,
            "emulated_frames": self._emulated,
            "profiles": sorted(self._profiles),
            "events": dict(sorted(self._events.items())),
        }


def percentiles_ms(values_s: list[float]) -> dict[str, float]:
    """p50, p95, p99 and the maximum, in ms; empty without values."""
    if not values_s:
        return {}
    return {f"p{p}": round(1e3 * float(np.percentile(values_s, p)), 2) for p in PERCENTILES}
