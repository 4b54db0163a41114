"""A hand and an arm for tests of the control core."""

from __future__ import annotations

import dataclasses

import numpy as np

from robosteer_teleop.control.core import TICK_S, CoreConfig, Target, TeleopCore
from robosteer_teleop.control.frames import XR_TO_ROS, Pose
from robosteer_teleop.control.gates import HandSample

DOWN = np.diag([1.0, -1.0, -1.0])
HOME = Pose(np.array([0.45, 0.0, 0.35]), DOWN)
UNIT = np.array([0.0, 0.0, 0.0, 1.0])


def hand_at(base_offset: np.ndarray) -> np.ndarray:
    """(3,) WebXR position of a hand at an offset (m) in the robot's axes, for yaw 0."""
    return XR_TO_ROS.T @ np.asarray(base_offset, dtype=float) + [0.0, 1.2, 0.0]


@dataclasses.dataclass
class Operator:
    """Sends frames at 72 Hz and ticks at 200 Hz on a clock of its own.

    Attributes:
        core: the core under test.
        measured: the arm's pose; follows the target when `blocked` is False.
    """

    core: TeleopCore
    measured: Pose = HOME
    blocked: bool = False
    now: float = 0.0
    sequence: int = 0
    offset: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3))
    squeeze: float = 0.0
    trigger: float = 0.0
    silent: bool = False
    targets: list[Target] = dataclasses.field(default_factory=list)
    _next_frame: float = 0.0

    def sample(self, **changes: object) -> HandSample:
        """The next frame."""
        self.sequence += 1
        values: dict = {
            "sequence": self.sequence,
            "time_s": 1000.0 + self.now,
            "visible": True,
            "tracked": True,
            "emulated": False,
            "position": hand_at(self.offset),
            "quaternion": UNIT,
            "squeeze": self.squeeze,
            "trigger": self.trigger,
        }
        return HandSample(**(values | changes))

    def run(self, duration_s: float, velocity: tuple[float, float, float] = (0.0, 0.0, 0.0), **changes: object) -> None:
        """Let time pass while the hand moves; `changes` go into every frame."""
        for _ in range(round(duration_s / TICK_S)):
            self.now += TICK_S
            self.offset = self.offset + np.array(velocity) * TICK_S
            if not self.silent and self.now >= self._next_frame:
                self._next_frame = self.now + 1.0 / 72.0
                self.core.frame(self.sample(**changes), self.now)
            self.tick()

    def tick(self) -> Target:
        """One tick of the output."""
        target = self.core.tick(self.now, self.measured)
        if not self.blocked and target.motion is not None:
            self.measured = target.motion.pose
        self.targets.append(target)
        return target

    def engage(self) -> None:
        """Show an open grip, then squeeze."""
        self.squeeze = 0.0
        self.run(0.05)
        self.squeeze = 1.0
        self.run(0.05)


def operator(**config: object) -> Operator:
    """An enabled core with a hand that rests."""
    core = TeleopCore(CoreConfig(**({"yaw": 0.0} | config)))  # type: ignore[arg-type]
    core.enable(True)
    return Operator(core)
