"""Keep the tool inside a box and the arm above a table, by forward kinematics."""

from __future__ import annotations

import numpy as np

from robosteer_rig.kinematics import joint_frames, tool_transform
from robosteer_rig.parts import Frames, Workspace

# Of `joint_frames`: elbow, forearm, wrist, the last joint, and the tool at the end.
_ABOVE_TABLE = slice(3, 8)
_TOOL = 7
# The factor below plans with this share of the distance, so that the exact check of the limiter rarely has to bite.
_SHARE = 0.8
_STEP_S = 1e-4
# No tracked point is farther from a joint's axis than this (reach 0.86 m and a tool), m.
_LONGEST_LEVER = 1.3
_ROUNDING = 1e-7


class WorkspaceLimits:
    """The rig's workspace as distances.

    Args:
        workspace: of the rig file.
        frames: of the rig file, for the tool.
    """

    def __init__(self, workspace: Workspace, frames: Frames) -> None:
        self._low, self._high = np.array(workspace.low), np.array(workspace.high)
        self._table_z = workspace.table_z
        self._tool = tool_transform(frames)

    def distances(self, position: np.ndarray) -> np.ndarray:
        """Signed distances to all boundaries, m; negative outside.

        Args:
            position: (..., 7) rad.

        Returns:
            (..., 6), or (..., 11) with a table.
        """
        origins = joint_frames(position, self._tool)[..., :3, 3]
        tool = origins[..., _TOOL, :]
        parts = [tool - self._low, self._high - tool]
        if self._table_z is not None:
            parts.append(origins[..., _ABOVE_TABLE, 2] - self._table_z)
        return np.concatenate(parts, axis=-1)

    def contains(self, path: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Whether positions are inside. What is outside already may stay so, but not get worse.

        Args:
            path: (..., 7) rad.
            position: (7,) rad, where the arm is.

        Returns:
            (...,) bool.
        """
        here = self.distances(position)
        turns = np.abs(path - position).reshape(-1, path.shape[-1]).max(axis=0)
        if _LONGEST_LEVER * turns.sum() < here.min():
            return np.ones(path.shape[:-1], dtype=bool)  # Too far from every boundary: the common case, and cheap.
        allowed = np.minimum(here, 0.0) - _ROUNDING
        return np.asarray((self.distances(path) >= allowed).all(axis=-1))

    def factor(self, position: np.ndarray, velocity: np.ndarray, stop_s: float, reaction_s: float) -> float:
        """Largest factor <= 1 by which `velocity` may be scaled so that the arm can still stop at the boundaries.

        Scaled by s, the arm approaches a boundary at s v, keeps that for `reaction_s` and then stops in s `stop_s`:
        it travels s v reaction + s^2 v stop / 2.

        Args:
            position: (7,) rad.
            velocity: (7,) rad/s.
            stop_s: time to stop from `velocity` itself.
            reaction_s: time before braking begins.
        """
        here, ahead = self.distances(np.stack([position, position + velocity * _STEP_S]))
        approach = (here - ahead) / _STEP_S
        nearing = approach > _ROUNDING
        if not nearing.any():
            return 1.0
        room, speed = _SHARE * np.maximum(here[nearing], 0.0), approach[nearing]
        square, linear = speed * stop_s / 2, speed * reaction_s
        return float(min(1.0, ((np.sqrt(linear**2 + 4 * square * room) - linear) / (2 * square)).min()))
