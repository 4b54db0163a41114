"""Measure a dataset: rates, ages, idleness, gripper, limits, actions, normalised extremes; all as plain data."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from robosteer_rig.actions import idle_frames
from robosteer_rig.limits import JointLimits
from robosteer_rig.stream_watch import follow_gripper
from robosteer_rig.units import NS_PER_S
from robosteer_training.dataset import Dataset

SCHEMA = "robosteer.quality/1"
BINS = 20
MOVED = 0.2  # of the gripper's range
MIN_PAUSE_FRAMES = 5
QUANTILE_RANGE_FLOOR = 0.01  # rad or u; openpi divides by this range
EPSILON = 1e-6  # openpi's


@dataclasses.dataclass(frozen=True)
class Limits:
    """What counts as wrong.

    Attributes:
        max_idle_share: of an episode's frames.
        max_clipped_share: of the frames with some |u| above 1.
        max_stale_share: of all frames.
        max_replay_m: tool's distance from the recording after replaying a whole episode, m.
        max_normalised: hard stop for a state or action normalised by the dataset's own q01 ... q99.
    """

    max_idle_share: float = 0.3
    max_clipped_share: float = 0.01
    max_stale_share: float = 0.02
    max_replay_m: float = 0.05
    max_normalised: float = 50.0


def measure(dataset: Dataset) -> dict[str, Any]:
    """Everything that the page shows, ready for JSON."""
    action = dataset.rig.action
    return {
        "schema": SCHEMA,
        "dataset": str(dataset.path),
        "digest": dataset.digest(),
        "rig": dataset.rig.name,
        "rate_hz": dataset.rate_hz,
        "unit_rad_per_s": action.unit_rad_per_s,
        "episodes": [_episode(dataset, index) for index in range(len(dataset.episodes))],
        "frames": len(dataset),
        "usable_frames": int(dataset.usable.sum()),
        "gripper": _gripper(dataset),
        "joints": _joints(dataset),
        "actions": _actions(dataset),
        "normalised": {
            "state": extremes(dataset.state, (*dataset.rig.arm.joints, "gripper")),
            "actions": extremes(dataset.actions, (*dataset.rig.arm.joints, "gripper")),
        },
    }


def _episode(dataset: Dataset, index: int) -> dict[str, Any]:
    rows, meta = dataset.rows(index), dataset.episodes[index]
    actions = dataset.actions[rows]
    idle = idle_frames(actions)
    seconds = len(actions) / dataset.rate_hz
    recorded = seconds + sum(meta.trimmed) / dataset.rate_hz
    return {
        "source": meta.source,
        "instruction": meta.instruction,
        "outcome": meta.outcome,
        "frames": meta.frames,
        "seconds": seconds,
        "trimmed": list(meta.trimmed),
        "stale_frames": meta.stale_frames,
        "idle_share": float(idle.mean()),
        "pauses": pauses(idle),
        "streams": {
            name: {
                "rate_hz": counts["received"] / recorded if recorded else 0.0,
                "max_age_s": meta.max_age_s.get(name, 0.0),
                "max_gap_s": counts["max_gap_ns"] / NS_PER_S,
                **{key: counts[key] for key in ("gaps", "missed", "duplicates", "out_of_order", "late", "evicted")},
            }
            for name, counts in meta.stream_counts.items()
        },
        "replay": dict(meta.replay),
    }


def pauses(idle: np.ndarray) -> int:
    """Idle stretches of five frames or more between the first and the last motion: the clutch was open."""
    moving = np.flatnonzero(~idle)
    if not len(moving):
        return 0
    return int((np.diff(moving) > MIN_PAUSE_FRAMES).sum())


def _gripper(dataset: Dataset) -> dict[str, Any]:
    moves: list[float] = []
    for index in range(len(dataset.episodes)):
        rows = dataset.rows(index)
        times = dataset.stamp_ns[rows].tolist()
        commands = list(zip(times, dataset.actions[rows, 7].tolist(), strict=True))
        moves += follow_gripper(commands, list(zip(times, dataset.state[rows, 7].tolist(), strict=True)))
    return {
        "commanded": np.histogram(dataset.actions[:, 7], BINS, (0, 1))[0].tolist(),
        "measured": np.histogram(dataset.state[:, 7], BINS, (0, 1))[0].tolist(),
        "changes": len(moves),
        "followed": sum(move > MOVED for move in moves),
        "opposed": sum(move < -MOVED for move in moves),
    }


def _joints(dataset: Dataset) -> list[dict[str, Any]]:
    limits = JointLimits.of(dataset.rig.arm)
    margin = limits.position_margin(dataset.state[:, :7])
    speed = np.abs(dataset.joint_velocity)
    return [
        {
            "name": name,
            "min": float(dataset.state[:, i].min()),
            "max": float(dataset.state[:, i].max()),
            "least_margin_rad": float(margin[:, i].min()),
            "max_speed_share": float(speed[:, i].max() / limits.velocity_max[i]),
        }
        for i, name in enumerate(dataset.rig.arm.joints)
    ]


def _actions(dataset: Dataset) -> dict[str, Any]:
    u = dataset.actions[:, :7]
    return {
        "edges": np.linspace(-1, 1, BINS + 1).tolist(),
        "histogram": [np.histogram(np.clip(u[:, i], -1, 1), BINS, (-1, 1))[0].tolist() for i in range(7)],
        "clipped_share": float((np.abs(u) > 1).any(axis=1).mean()),
        "largest": float(np.abs(u).max()),
    }


def extremes(values: np.ndarray, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """How far values (n, d) lie outside [-1, 1] when normalised as openpi does, by 1st and 99th percentile."""
    low, high = np.quantile(values.astype(np.float64), (0.01, 0.99), axis=0)
    normalised = 2 * (values - low) / (high - low + EPSILON) - 1
    largest = np.abs(normalised).max(axis=0)
    return [
        {
            "name": name,
            "q01": float(low[i]),
            "q99": float(high[i]),
            "narrow": bool(high[i] - low[i] < QUANTILE_RANGE_FLOOR),
            "largest": float(largest[i]),
        }
        for i, name in enumerate(names)
    ]
