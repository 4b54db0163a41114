"""Derive a dataset's actions from the commands that the operator sent."""

from __future__ import annotations

import array
import dataclasses

import numpy as np

from robosteer_rig.errors import RobosteerError


def interval_means(
    stamps_ns: np.ndarray, values: np.ndarray, edges_ns: np.ndarray, *, hold_ns: int | None = None
) -> np.ndarray:
    """Means of a zero-order-hold signal over consecutive intervals.

    The signal is 0 before the first stamp (nothing was commanded), values[i] from stamps[i] on until the next stamp,
    and 0 again once a value has been held for `hold_ns`: what a command timeout makes of it. The mean over an interval
    is displacement / duration, so that integrating the actions reproduces the motion; point samples drift.

    Args:
        stamps_ns: (n,) strictly increasing.
        values: (n, d).
        edges_ns: (m + 1,) strictly increasing; interval k is [edges[k], edges[k+1]).
        hold_ns: longest time a value holds; None holds it until the next.

    Returns:
        (m, d) float64, in the unit of `values`.

    Raises:
        RobosteerError: when stamps or edges do not increase or shapes do not fit.
    """
    stamps, edges = np.asarray(stamps_ns, dtype=np.int64), np.asarray(edges_ns, dtype=np.int64)
    signal = np.asarray(values, dtype=np.float64)
    if signal.ndim != 2 or len(signal) != len(stamps):
        raise RobosteerError(f"values: found shape {signal.shape}, expected ({len(stamps)}, d)")
    if len(edges) < 2 or (np.diff(edges) <= 0).any() or (np.diff(stamps) <= 0).any():
        raise RobosteerError("stamps: found ones that do not increase, expected strictly increasing stamps and edges")
    if not len(stamps):
        return np.zeros((len(edges) - 1, signal.shape[1]))
    points, signal = _with_timeouts(stamps, signal, hold_ns)
    cuts = np.union1d(points, edges)
    cuts = cuts[(cuts >= edges[0]) & (cuts <= edges[-1])]
    owner = np.searchsorted(points, cuts[:-1], side="right") - 1
    held = np.where((owner >= 0)[:, None], signal[np.maximum(owner, 0)], 0.0)
    weighted = held * np.diff(cuts)[:, None]
    first = np.searchsorted(cuts, edges[:-1])
    return np.add.reduceat(weighted, first, axis=0) / np.diff(edges)[:, None]


def interval_mean(
    stamps_ns: np.ndarray, values: np.ndarray, start_ns: int, end_ns: int, *, hold_ns: int | None = None
) -> np.ndarray:
    """Mean of a zero-order-hold signal over [start, end), (d,); see `interval_means`."""
    return interval_means(stamps_ns, values, np.array([start_ns, end_ns]), hold_ns=hold_ns)[0]


def _with_timeouts(stamps: np.ndarray, signal: np.ndarray, hold_ns: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Add a zero where a value's hold runs out before the next value."""
    if hold_ns is None:
        return stamps, signal
    expiry = stamps + hold_ns
    runs_out = np.append(expiry[:-1] < stamps[1:], True)
    points = np.concatenate([stamps, expiry[runs_out]])
    padded = np.concatenate([signal, np.zeros((int(runs_out.sum()), signal.shape[1]))])
    order = np.argsort(points, kind="stable")
    return points[order], padded[order]


def values_before(stamps_ns: np.ndarray, values: np.ndarray, times_ns: np.ndarray, default: np.ndarray) -> np.ndarray:
    """The last value stamped strictly before each time.

    Args:
        stamps_ns: (n,) increasing.
        values: (n,).
        times_ns: (m,).
        default: (m,) taken where nothing is stamped before the time.

    Returns:
        (m,).
    """
    index = np.searchsorted(np.asarray(stamps_ns), np.asarray(times_ns), side="left") - 1
    if not len(stamps_ns):
        return np.array(default, dtype=np.float64)
    return np.where(index >= 0, np.asarray(values, dtype=np.float64)[np.maximum(index, 0)], default)


@dataclasses.dataclass
class CommandTrack:
    """The operator's commands of one episode, collected in order of arrival; 8 bytes per number.

    Attributes:
        width: numbers per command.
    """

    width: int
    _stamps_ns: array.array[int] = dataclasses.field(default_factory=lambda: array.array("q"))
    _values: array.array[float] = dataclasses.field(default_factory=lambda: array.array("d"))

    def append(self, stamp_ns: int, value: np.ndarray) -> None:
        """Add a command (width,)."""
        self._stamps_ns.append(stamp_ns)
        self._values.extend(np.asarray(value, dtype=np.float64).tolist())

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Stamps (n,) strictly increasing and values (n, width); of equal stamps the last to arrive counts."""
        stamps = np.array(self._stamps_ns, dtype=np.int64)
        values = np.array(self._values, dtype=np.float64).reshape(len(stamps), self.width)
        order = np.argsort(stamps, kind="stable")
        kept = order[np.append(np.diff(stamps[order]) > 0, True)] if len(order) else order
        return stamps[kept], values[kept]


def commanded_actions(arm: CommandTrack, edges_ns: np.ndarray, *, unit_rad_per_s: float, hold_ns: int) -> np.ndarray:
    """Means of the commanded velocities.

    Args:
        arm: (7,) commanded joint velocities, rad/s.
        edges_ns: (n + 1,) t_0 ... t_n.
        unit_rad_per_s: joint velocity of u = 1.
        hold_ns: command timeout.

    Returns:
        (n, 7) normalised joint velocities u = mean over [t_k, t_k+1) / unit.
    """
    stamps, velocities = arm.arrays()
    return interval_means(stamps, velocities, edges_ns, hold_ns=hold_ns) / unit_rad_per_s


def with_gripper(
    joints: np.ndarray, gripper: CommandTrack, edges_ns: np.ndarray, measured_gripper: np.ndarray
) -> np.ndarray:
    """Append the gripper command in force at the end of each interval.

    Args:
        joints: (n, 7) normalised joint velocities.
        gripper: (1,) commanded gripper, 0 open ... 1 closed; a command holds until the next.
        edges_ns: (n + 1,) t_0 ... t_n.
        measured_gripper: (n,) used before the first command: the gripper stays as it is.

    Returns:
        (n, 8) float32.
    """
    stamps, values = gripper.arrays()
    closed = values_before(stamps, values[:, 0], np.asarray(edges_ns)[1:], measured_gripper)
    return np.concatenate([joints, np.clip(closed, 0.0, 1.0)[:, None]], axis=1).astype(np.float32)


def idle_frames(actions: np.ndarray, *, threshold: float = 1e-3) -> np.ndarray:
    """Frames in which nothing was commanded.

    Args:
        actions: (n, 8) normalised.
        threshold: of |u|; 1e-3 is 0.003 rad/s in DROID's unit.

    Returns:
        (n,) bool: every |u| below the threshold and the gripper command as in the frame before.
    """
    if not len(actions):
        return np.zeros(0, dtype=bool)
    still = (np.abs(actions[:, :7]) < threshold).all(axis=1)
    steps = np.abs(np.diff(actions[:, 7], prepend=actions[:1, 7]))
    return still & (steps < 0.01)
