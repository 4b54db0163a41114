"""Refuse recordings that would silently give wrong frames; every refusal is one line that names the episode."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import GRIPPER_STATE, JOINT_STATE, Rig, recording_differences
from robosteer_rig.streams import StreamCounts
from robosteer_rig.units import NS_PER_S
from robosteer_training.episodes import EpisodeInfo

POSITION_SLACK_RAD = 0.2  # Beyond the limits of the rig file; a robot in its safety stop still counts.
MAX_SPEED_FACTOR = 10  # Times the fastest: differentiated encoders jitter, degrees are 57 times as large.
MAX_CLOCK_DIFFERENCE_S = 0.5  # Far above any transport's least latency, well below a misleading shift.


def require_same_rig(info: EpisodeInfo, rig: Rig) -> None:
    """Check that a recording was made with this rig, apart from crops and other choices of use.

    Raises:
        RobosteerError: naming the first field that differs.
    """
    recorded = info.rig()
    if recorded is None:
        return
    if lines := recording_differences(rig, recorded):
        more = f" (and {len(lines) - 1} more fields)" if len(lines) > 1 else ""
        raise RobosteerError(f"{info.path}: rig file: {lines[0]} as recorded{more}; pass the rig of the recording")


def require_healthy(path: Path, rig: Rig, counts_by_stream: dict[str, StreamCounts]) -> None:
    """Check what the aligner has counted.

    Raises:
        RobosteerError: for damaged messages, messages about other joints only, and clocks that were set.
    """
    wanted = {
        JOINT_STATE: f"finite positions of {', '.join(rig.arm.joints)}",
        GRIPPER_STATE: f"a finite position of {rig.gripper.state_joint}",
    }
    for name, counts in counts_by_stream.items():
        where = f"{path}: topic {rig.topics()[name][0]}"
        if counts.invalid or counts.foreign == counts.received:
            bad = counts.invalid or counts.foreign
            found = f"found {bad} of {counts.received} messages damaged or without the rig's joints"
            raise RobosteerError(f"{where}: {found}, expected {wanted[name]}; correct the rig file or record again")
        if jumps := counts.jumps_back + counts.jumps_forward:
            raise RobosteerError(
                f"{where}: found {jumps} clock jumps, expected none; synchronise the clocks and record again"
            )


def require_plausible(path: Path, rig: Rig, state: np.ndarray, velocity: np.ndarray, actions: np.ndarray) -> None:
    """Check that the numbers can be this arm's: what else would tell degrees from radians?

    Args:
        path: of the episode.
        rig: its limits and what u = 1 means.
        state: (n, 8) joints in rad and gripper.
        velocity: (n, 7) measured, rad/s.
        actions: (n, 8) normalised.

    Raises:
        RobosteerError: naming the joint that is farthest out.
    """
    arm = rig.arm
    low, high, fastest = (np.array(v) for v in (arm.position_min, arm.position_max, arm.velocity_max))
    commanded = np.abs(actions[:, :7].astype(np.float64)) * rig.action.unit_rad_per_s
    slow = MAX_SPEED_FACTOR * fastest
    checks = (
        (arm.state_topic, "at {:.4g} rad", state[:, :7], low - POSITION_SLACK_RAD, high + POSITION_SLACK_RAD),
        (arm.state_topic, "moving at {:.4g} rad/s", velocity, -slow, slow),
        (rig.action.command_topic, "commanded to move at {:.4g} rad/s", commanded, -slow, slow),
    )
    for topic, words, values, lower, upper in checks:
        outside = ~((values >= lower) & (values <= upper))
        if outside.any():
            frame, joint = np.argwhere(outside)[0]
            found = words.format(values[frame, joint])
            raise RobosteerError(
                f"{path}: topic {topic}: found {arm.joints[joint]} {found}, expected {lower[joint]:.4g} ... "
                f"{upper[joint]:.4g}; are these degrees, or another robot's joints?"
            )


def require_one_clock(path: Path, rig: Rig, latency_ns: dict[str, int]) -> None:
    """Check that all computers had the same time.

    The least latency of a stream is the offset of its clock from the recorder's: it must be about the same for all.

    Args:
        path: of the episode.
        rig: names the topics.
        latency_ns: stream -> least log time minus stamp; streams without stamps are absent.

    Raises:
        RobosteerError: naming the two topics that differ most.
    """
    if not latency_ns:
        return
    first, last = min(latency_ns, key=latency_ns.__getitem__), max(latency_ns, key=latency_ns.__getitem__)
    apart_s = (latency_ns[last] - latency_ns[first]) / NS_PER_S
    if apart_s > MAX_CLOCK_DIFFERENCE_S:
        one, other = rig.topics()[first][0], rig.topics()[last][0]
        raise RobosteerError(
            f"{path}: found the clocks of {one} and {other} {apart_s:.3g} s apart, expected at most "
            f"{MAX_CLOCK_DIFFERENCE_S:g} s; synchronise the computers' clocks and record again"
        )
