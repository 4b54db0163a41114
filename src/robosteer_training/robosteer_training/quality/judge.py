"""What in the measurements of a dataset is wrong, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robosteer_training.quality.measure import Limits


def judge(report: dict[str, Any], limits: Limits) -> tuple[list[str], list[str]]:
    """Errors, after which nobody should train, and warnings; one line each.

    Args:
        report: of `measure`.
        limits: what counts as wrong.
    """
    errors = [*_normalised(report, limits), *_gripper_errors(report)]
    warnings = [*_whole(report, limits)]
    for episode in report["episodes"]:
        warnings += [f"{Path(episode['source']).name}: {text}" for text in _episode(episode, limits)]
    return errors, warnings


def _normalised(report: dict[str, Any], limits: Limits) -> list[str]:
    lines = []
    for kind, entries in report["normalised"].items():
        for entry in entries:
            if entry["largest"] > limits.max_normalised:
                lines.append(
                    f"{kind}.{entry['name']}: found a normalised value of {entry['largest']:.4g}, expected at most "
                    f"{limits.max_normalised:g}; its q01 ... q99 is only {entry['q01']:.4g} ... {entry['q99']:.4g}: "
                    "use the base checkpoint's statistics or record more variety"
                )
    return lines


def _gripper_errors(report: dict[str, Any]) -> list[str]:
    gripper = report["gripper"]
    if gripper["opposed"] > gripper["followed"]:
        return [
            f"gripper: found {gripper['opposed']} of {gripper['changes']} commands followed the other way, expected "
            "closed = 1; exchange open_position and closed_position in the rig file"
        ]
    return []


def _whole(report: dict[str, Any], limits: Limits) -> list[str]:
    lines = []
    clipped, frames = report["actions"]["clipped_share"], report["frames"]
    if clipped > limits.max_clipped_share:
        lines.append(f"actions: {clipped:.1%} of the frames have some |u| above 1, which a controller clips")
    stale = sum(episode["stale_frames"] for episode in report["episodes"])
    if stale > limits.max_stale_share * frames:
        lines.append(f"streams: {stale} of {frames} frames have an input that is too old")
    if not report["gripper"]["changes"]:
        lines.append("gripper: no command changes it; a policy cannot learn when to close it")
    lines += [
        f"joints: {joint['name']} comes within {joint['least_margin_rad']:.3f} rad of its limit"
        for joint in report["joints"]
        if joint["least_margin_rad"] < 0.02
    ]
    narrow = [entry["name"] for entry in report["normalised"]["actions"] if entry["narrow"]]
    if narrow:
        lines.append(f"actions: {', '.join(narrow)} hardly move; statistics of this dataset alone would blow noise up")
    return lines


def _episode(episode: dict[str, Any], limits: Limits) -> list[str]:
    lines = []
    if episode["idle_share"] > limits.max_idle_share:
        lines.append(f"{episode['idle_share']:.0%} of the frames are idle; convert with --skip-idle")
    if episode["pauses"]:
        lines.append(f"{episode['pauses']} pauses in the middle; the clutch was open")
    moved = episode["replay"].get("open_loop_max_m", 0.0)
    if moved > limits.max_replay_m:
        lines.append(f"replaying the actions ends up {1000 * moved:.0f} mm off; another --actions may fit this arm")
    for name, stream in episode["streams"].items():
        lost = {key: stream[key] for key in ("missed", "late", "evicted") if stream[key]}
        if lost:
            lines.append(f"{name}: {', '.join(f'{count} {key}' for key, count in lost.items())} messages")
    return lines
