"""Which frames lie between an episode's markers. The markers are log times, frames have the sensors' times."""

from __future__ import annotations

import numpy as np

from robosteer_rig.streams import CLOCK_JUMP_NS


def sensor_time(log_ns: int, state_stamp_ns: int) -> int:
    """The time on the sensors' clock at which something was logged, ns.

    A recorder logs wall-clock times also when the robot runs on simulated time; then the joint state that arrived last
    tells the time, to one period of that stream.

    Args:
        log_ns: log time.
        state_stamp_ns: stamp of the joint state that was logged last; 0 for none.
    """
    return state_stamp_ns if state_stamp_ns and abs(log_ns - state_stamp_ns) > CLOCK_JUMP_NS else log_ns


class MarkedSpan:
    """The demonstration within a recording."""

    def __init__(self, from_ns: int | None, until_ns: int | None) -> None:
        """Take the markers, log times in ns; None for the end of the recording on that side."""
        self._markers = (from_ns, until_ns)
        self._edges: list[int | None] = [None, None]  # on the sensors' clock

    def take_state(self, log_ns: int, stamp_ns: int) -> None:
        """See a joint state, in log order; the first one at or after a marker gives the marker's sensor time."""
        for side, marker in enumerate(self._markers):
            if marker is not None and self._edges[side] is None and log_ns >= marker:
                self._edges[side] = sensor_time(marker, stamp_ns)

    def contains(self, stamps_ns: np.ndarray) -> np.ndarray:
        """Which frames belong to the demonstration.

        Args:
            stamps_ns: (n,) on the sensors' clock.

        Returns:
            (n,) bool. No frame when the first marker lies after the recording.
        """
        inside = np.ones(len(stamps_ns), dtype=bool)
        first, last = self._edges
        if self._markers[0] is not None:
            inside &= False if first is None else stamps_ns >= first
        return inside if last is None else inside & (stamps_ns < last)
