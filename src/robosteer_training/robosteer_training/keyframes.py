"""Which frames of a dataset are scored and trained on: all, every n-th, or the moments that matter."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import numpy as np

from robosteer_rig.actions import idle_frames
from robosteer_rig.errors import RobosteerError

Mode = Literal["all", "stride", "roboprompt", "union"]
STOPPED_RAD_PER_S = 0.1
BLOCKED_AFTER_STOP = 4  # frames


@dataclasses.dataclass(frozen=True)
class Selection:
    """A choice of frames. It is a view: changing it converts nothing again, and chunks still use every frame's action.

    Attributes:
        keyframes: all; stride: every `stride`-th of an episode; roboprompt: gripper changes, stops and the last frame;
            union: of stride and roboprompt.
        stride: for stride and union.
        skip_idle: leave out frames in which nothing was commanded.
    """

    keyframes: Mode = "all"
    stride: int = 3
    skip_idle: bool = False

    def __post_init__(self) -> None:
        if self.keyframes not in get_args(Mode):
            raise RobosteerError(f"keyframes: found {self.keyframes!r}, expected one of {', '.join(get_args(Mode))}")
        if self.stride < 1:
            raise RobosteerError(f"stride: found {self.stride}, expected 1 or more")


def select_frames(actions: np.ndarray, joint_velocity: np.ndarray, selection: Selection) -> np.ndarray:
    """Choose frames of one episode.

    Args:
        actions: (n, 8) normalised; the last column is the gripper command.
        joint_velocity: (n, 7) measured, rad/s.
        selection: what to choose.

    Returns:
        (n,) bool.
    """
    chosen = np.zeros(len(actions), dtype=bool)
    if selection.keyframes == "all":
        chosen[:] = True
    if selection.keyframes in ("stride", "union"):
        chosen[:: selection.stride] = True
    if selection.keyframes in ("roboprompt", "union"):
        chosen[roboprompt_keyframes(actions[:, 7] >= 0.5, joint_velocity)] = True
    return chosen & ~idle_frames(actions) if selection.skip_idle else chosen


def roboprompt_keyframes(closed: np.ndarray, joint_velocity: np.ndarray) -> list[int]:
    """RoboPrompt's rule, the heuristic of C2F-ARM and PerAct.

    A frame after the first is a keyframe when the gripper has just changed, when it is the last, or when the arm has
    stopped: all speeds at most 0.1 rad/s, no gripper change over i-2 ... i+1, not the second to last, and none of the
    four frames after another stop. A second to last keyframe right before the last is dropped.

    Args:
        closed: (n,) bool, the gripper is commanded to close.
        joint_velocity: (n, 7) measured, rad/s.

    Returns:
        Indices, increasing.
    """
    count = len(closed)
    still = np.all(np.abs(joint_velocity) <= STOPPED_RAD_PER_S, axis=1)
    keyframes: list[int] = []
    blocked = 0
    for i in range(count):
        calm = i < count - 2 and len(set(closed[max(i - 2, 0) : i + 2])) == 1
        stopped = bool(still[i]) and calm and blocked <= 0
        blocked = BLOCKED_AFTER_STOP if stopped else blocked - 1
        if i > 0 and (closed[i] != closed[i - 1] or i == count - 1 or stopped):
            keyframes.append(i)
    if len(keyframes) > 1 and keyframes[-2] == keyframes[-1] - 1:
        del keyframes[-2]
    return keyframes
