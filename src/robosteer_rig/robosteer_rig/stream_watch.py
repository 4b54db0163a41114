"""What the messages of one stream show about it: rate, clock, joints, units, pictures."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_rig.messages import ImageSample, array_command, header_stamp, image_sample, joint_sample
from robosteer_rig.rig import ARM_COMMAND, GRIPPER_COMMAND, GRIPPER_STATE, JOINT_STATE, Rig
from robosteer_rig.units import NS_PER_S

MIN_FOR_RATE = 5  # messages
POSITION_SLACK_RAD = 0.1
GRIPPER_SLACK = 0.15  # of its range


class StreamWatch:
    """Collects what one stream's messages show."""

    def __init__(self, rig: Rig, stream: str) -> None:
        self.problems: dict[str, tuple[str, str]] = {}  # what -> (first found, expected)
        self.notes: dict[str, str] = {}
        self.count = 0
        self.values: list[tuple[int, float]] = []  # (time, 0 open ... 1 closed) of the gripper's streams
        self._rig, self._stream = rig, stream
        self._times: list[int] = []
        self._skews: list[int] = []
        self._contents: set[bytes] = set()
        self._decoded = False

    def receive(self, message: Any, received_ns: int) -> None:
        """Take one message of the right type in."""
        self.count += 1
        stamp = header_stamp(message)
        self._times.append(stamp or received_ns)
        if stamp:
            self._skews.append(received_ns - stamp)
        elif hasattr(message, "header"):
            self.problems.setdefault("stamp", ("messages without a stamp", "the sensor's time in header.stamp"))
        self._look_at(message, stamp or received_ns)

    def _look_at(self, message: Any, time_ns: int) -> None:
        if self._stream in self._rig.cameras:
            self._image(message)
        elif self._stream == JOINT_STATE:
            self._joints(message)
        elif self._stream == GRIPPER_STATE:
            self._gripper(message, time_ns)
        elif self._stream == ARM_COMMAND:
            self._command(message)
        elif self._stream == GRIPPER_COMMAND:
            value = float(message.data)
            self.values.append((time_ns, value))
            if not -0.01 <= value <= 1.01:
                self.problems.setdefault("range", (f"{value:g}", "0 (open) to 1 (closed)"))

    def _image(self, message: Any) -> None:
        camera = self._rig.cameras[self._stream]
        try:
            sample: ImageSample = image_sample(message, camera)
            self._contents.add(hashlib.sha256(sample.data).digest())
            if not self._decoded:
                sample.view(camera)
                self._decoded = True
        except RobosteerError as error:
            found, _, expected = str(error).partition(", expected ")
            self.problems.setdefault("image", (found, expected))

    def _joints(self, message: Any) -> None:
        names, arm = list(message.name), self._rig.arm
        sample = joint_sample(message, arm.joints)
        if sample is None:
            missing = [name for name in arm.joints if name not in names]
            found = (
                f"no {', '.join(missing)}; it has {', '.join(names[:8])}"
                if missing
                else "positions that are no numbers"
            )
            self.problems.setdefault("joints", (found, ", ".join(arm.joints)))
            return
        if [name for name in names if name in arm.joints] != list(arm.joints):
            self.notes.setdefault("joint order", f"{', '.join(names)}: another order than the rig's; matched by name")
        low, high = np.array(arm.position_min), np.array(arm.position_max)
        outside = np.maximum(low - sample.position, sample.position - high)
        worst = int(np.argmax(outside))
        if outside[worst] > POSITION_SLACK_RAD:
            found = f"{arm.joints[worst]} at {sample.position[worst]:.3g}"
            self.problems.setdefault("position", (found, f"{low[worst]:g} ... {high[worst]:g} rad; degrees?"))
        if not len(message.velocity):
            self.notes.setdefault("velocity", "no measured velocities in the message")

    def _gripper(self, message: Any, time_ns: int) -> None:
        gripper = self._rig.gripper
        sample = joint_sample(message, (gripper.state_joint,))
        if sample is None:
            self.problems.setdefault("joints", (", ".join(message.name) or "no joint", gripper.state_joint))
            return
        position = float(sample.position[0])
        share = (position - gripper.open_position) / (gripper.closed_position - gripper.open_position)
        self.values.append((time_ns, share))
        if not -GRIPPER_SLACK <= share <= 1 + GRIPPER_SLACK:
            wanted = f"{gripper.open_position:g} (open) to {gripper.closed_position:g} (closed)"
            self.problems.setdefault("range", (f"{position:.4g}", wanted))

    def _command(self, message: Any) -> None:
        joints = self._rig.arm.joints
        named = hasattr(message, "velocity")
        sample = joint_sample(message, joints, need="velocity") if named else array_command(message, len(joints))
        if sample is None:
            self.problems.setdefault(
                "joints", ("a command that lacks some", f"a finite velocity for {', '.join(joints)}")
            )

    def rate_hz(self) -> float | None:
        """Mean rate by the stamps; None for too few messages."""
        times = np.sort(np.array(self._times, dtype=np.int64))
        if len(times) < MIN_FOR_RATE or times[-1] == times[0]:
            return None
        return (len(times) - 1) * NS_PER_S / float(times[-1] - times[0])

    def longest_gap_s(self) -> float:
        """Longest pause between two stamps."""
        times = np.sort(np.array(self._times, dtype=np.int64))
        return float(np.diff(times).max(initial=0)) / NS_PER_S

    def skew_s(self) -> float | None:
        """Least time from stamp to reception: the offset of the sensor's clock plus the transport's least latency."""
        return min(self._skews, key=abs) / NS_PER_S if self._skews else None

    def frozen(self) -> bool:
        """A camera that sent the same bytes all the time."""
        return self.count >= MIN_FOR_RATE and len(self._contents) == 1


def follow_gripper(
    commands: list[tuple[int, float]], states: list[tuple[int, float]], *, within_s: float = 1.5
) -> list[float]:
    """How far the gripper moved in the direction of each change of its command.

    Args:
        commands: (time ns, 0 open ... 1 closed).
        states: (time ns, measured share closed).
        within_s: how long after the change it has to move.

    Returns:
        Per change from one half to the other: the movement, positive in the commanded direction.
    """
    if len(commands) < 2 or len(states) < 2:
        return []
    times, shares = (np.array(column) for column in zip(*sorted(states), strict=True))
    commands = sorted(commands)
    moves = []
    for (_, before), (time_ns, after) in itertools.pairwise(commands):
        if (before >= 0.5) == (after >= 0.5):
            continue
        start = int(np.searchsorted(times, time_ns, side="right")) - 1
        stop = int(np.searchsorted(times, time_ns + within_s * NS_PER_S, side="right")) - 1
        if start >= 0 and stop > start:
            moves.append(float(shares[stop] - shares[start]) * (1 if after >= 0.5 else -1))
    return moves
