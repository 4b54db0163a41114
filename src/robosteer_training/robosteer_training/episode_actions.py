"""The operator's commands of one episode, and the actions that they become."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from robosteer_rig.action_variants import controller_actions, measured_actions, target_actions, values_at
from robosteer_rig.actions import CommandTrack, commanded_actions, with_gripper
from robosteer_rig.errors import RobosteerError
from robosteer_rig.kinematics import tool_transform
from robosteer_rig.messages import array_command, joint_sample
from robosteer_rig.parts import NUM_JOINTS
from robosteer_rig.rig import Rig
from robosteer_rig.units import seconds_to_ns

ActionSource = Literal["commanded", "measured", "target", "controller"]
ActionUnit = Literal["rad_s", "per_step"]


class Commands:
    """Collects what an action source needs: velocities, or positions for those that compare with a target."""

    def __init__(self, joints: tuple[str, ...], source: ActionSource) -> None:
        self._joints = joints
        self._source = source
        self._need = "position" if source in ("target", "controller") else "velocity"
        self._arm = CommandTrack(NUM_JOINTS)
        self._gripper = CommandTrack(1)

    def take_arm(self, stamp_ns: int, message: Any) -> None:
        """Take a JointState or Float64MultiArray.

        Raises:
            RobosteerError: when it lacks what the source needs of a joint, or that is not finite.
        """
        if hasattr(message, "velocity"):
            sample = joint_sample(message, self._joints, need=self._need)
        else:
            sample = array_command(message, len(self._joints)) if self._need == "velocity" else None
        if sample is None:
            advice = "; --actions commanded or measured need none" if self._need == "position" else ""
            raise RobosteerError(
                f"found a command without a finite {self._need} for each of {', '.join(self._joints)}{advice}"
            )
        self._arm.append(stamp_ns, sample.position if self._need == "position" else sample.velocity)

    def take_gripper(self, stamp_ns: int, message: Any) -> None:
        """Take a Float64, 0 open ... 1 closed.

        Raises:
            RobosteerError: for a number outside that range.
        """
        value = float(message.data)
        if not -0.01 <= value <= 1.01:
            raise RobosteerError(f"found gripper command {value:g}, expected 0 (open) to 1 (closed)")
        self._gripper.append(stamp_ns, np.array([value]))

    def actions(self, rig: Rig, edges_ns: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Derive the actions of all frames.

        Args:
            rig: with the rate and unit that the actions are to have.
            edges_ns: (n + 1,) t_0 ... t_n.
            state: (n or more, 8) of the frames at the edges, joints in rad and gripper.

        Returns:
            (n, 8) float32; one row less where the measured end of the last interval is not known.
        """
        if self._source == "measured":
            edges_ns = edges_ns[: len(state)]
        count = len(edges_ns) - 1
        joints = self._joint_actions(rig, edges_ns, np.asarray(state[: count + 1, :7], dtype=np.float64))
        return with_gripper(joints, self._gripper, edges_ns, state[:count, 7])

    def _joint_actions(self, rig: Rig, edges_ns: np.ndarray, measured: np.ndarray) -> np.ndarray:
        unit = rig.action.unit_rad_per_s
        if self._source == "commanded":
            hold_ns = seconds_to_ns(rig.action.command_timeout_s)
            return commanded_actions(self._arm, edges_ns, unit_rad_per_s=unit, hold_ns=hold_ns)
        if self._source == "measured":
            return measured_actions(measured, edges_ns, unit)
        at_start = measured[: len(edges_ns) - 1]
        targets = values_at(*self._arm.arrays(), edges_ns[1:], at_start)
        if self._source == "target":
            return target_actions(targets, at_start, edges_ns, unit)
        return controller_actions(targets, at_start, edges_ns, unit, tool=tool_transform(rig.frames))
