"""Times and tolerances of the guard, validated once."""

from __future__ import annotations

import dataclasses

from robosteer_rig.errors import RobosteerError


@dataclasses.dataclass(frozen=True)
class GuardSettings:
    """When the guard stops trusting what it hears.

    Attributes:
        hold_s: a command is obeyed for this long after its stamp; then the arm slews to rest. Older ones are dropped.
            The rig's `action.command_timeout_s`, so that converted actions and the arm's motion agree.
        silence_s: after this long without a valid command a moving stream is a fault (an operator's is not).
        joint_state_s: joint states older than this are a fault while armed.
        future_s: a stamp may lie this far ahead of the guard's clock (rounding, clock discipline).
        ramp_s: a source that begins to speak (after arming, silence or a hand-over) is obeyed at full speed no sooner
            than this. A rest within its stream of commands does not begin it anew.
        controller_s: after this long without commands the controller (its watchdog, or the simulated cell) brakes
            the arm by itself; a guard that was not scheduled for so long goes on from there.
        controller_brake: how it brakes, rad/s^2.
        frozen_s: a guard that was not scheduled for so long faults.
        clock_jump_s: a step of the stamping clock by more than this between two periods is a fault.
        still_rad_per_s: arming is refused while a joint moves faster than this.
    """

    hold_s: float = 0.05
    silence_s: float = 0.2
    joint_state_s: float = 0.05
    future_s: float = 0.02
    ramp_s: float = 0.3
    controller_s: float = 0.05
    controller_brake: float = 10.0
    frozen_s: float = 0.3
    clock_jump_s: float = 0.05
    still_rad_per_s: float = 0.05

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 < value <= 10:
                raise RobosteerError(f"guard.{field.name}: found {value}, expected more than 0 and at most 10")
        if self.silence_s < self.hold_s:
            raise RobosteerError(f"guard.silence_s: found {self.silence_s}, expected at least hold_s={self.hold_s}")
