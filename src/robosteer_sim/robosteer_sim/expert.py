"""The expert that picks an object up, from joint positions and object poses."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from robosteer_sim.grips import Grip
from robosteer_sim.motion import Expert, Move, Phase, View, downward, towards

REACH_GAIN = 3.0  # 1/s: speed per distance near a target
GRASP_GAIN = 5.0  # 1/s: the same close to the object, where aim matters
_GRASP_HEIGHT_M = 0.009  # low enough to close: above the grasp point
_GRASP_AIM_M = 0.011  # well enough aimed to close: half the pads' width
_STROKE_WEIGHT = 0.65  # errors along the stroke matter less: the closing pads centre the object
_SETTLED_S = 0.15  # the pads count as closed when they have not moved for this long
_SLIPPED_M = 0.05


@dataclasses.dataclass(frozen=True)
class Style:
    """How one operator performs one episode.

    Attributes:
        reach_speed: m/s.
        descend_speed: m/s.
        lift_speed: m/s.
        hover_m: height above the object before the descent.
        aim_m: (2,) error of the first aim, corrected during the descent.
        pause_s: between arriving and closing.
        lift_m: height of the lift.
        lift_drift_m: (2,) sideways motion during the lift.
        hold_s: at the end.
    """

    reach_speed: float
    descend_speed: float
    lift_speed: float
    hover_m: float
    aim_m: np.ndarray
    pause_s: float
    lift_m: float
    lift_drift_m: np.ndarray
    hold_s: float


def draw_style(random: np.random.Generator) -> Style:
    """A human-like variation."""
    return Style(
        reach_speed=random.uniform(0.15, 0.21),
        descend_speed=random.uniform(0.08, 0.11),
        lift_speed=random.uniform(0.10, 0.13),
        hover_m=random.uniform(0.08, 0.12),
        aim_m=np.clip(random.normal(0.0, 0.008, 2), -0.016, 0.016),
        pause_s=random.uniform(0.0, 0.2),
        lift_m=random.uniform(0.11, 0.15),
        lift_drift_m=random.normal(0.0, 0.01, 2),
        hold_s=random.uniform(0.5, 0.7),
    )


class PickExpert(Expert):
    """Picks `target` up and holds it."""

    tremor = 0.006

    def __init__(self, target: str, random: np.random.Generator, grip: Grip | None = None) -> None:
        """Prepare an episode.

        Args:
            target: name of the object to pick up.
            random: source of the human-like variation.
            grip: how to take hold of it; None for a cube.
        """
        super().__init__(random)
        self.target = target
        self._grip = grip or Grip()
        self._style = draw_style(random)
        self._yaw: float | None = None
        self._anchor = np.zeros(3)
        self._pads = (0.0, 0.0)

    @property
    def done(self) -> bool:
        """Whether the object has been held up long enough."""
        return self.phase is Phase.HOLD and self._time is not None and self._time - self._since >= self._style.hold_s

    def _decide(self, view: View) -> Move:
        pose = view.poses[self.target]
        if self._yaw is None:
            self._yaw = self._grip.choose(pose, view.tool)
            self._since, self.attempts = view.now, self.attempts + 1
        self._advance(view, self._grip.point(pose))
        goal, speed = self._goal(view.tip, self._grip.point(pose))
        steady = self.phase not in (Phase.REACH, Phase.DESCEND, Phase.LIFT)
        return Move(self._approach(goal - view.tip, speed), downward(self._yaw or 0.0), self._gripper(), steady)

    def _advance(self, view: View, grasp: np.ndarray) -> None:
        """Change to another phase when the present one has done its work."""
        style, tip, now = self._style, view.tip, view.now
        if self.phase is Phase.REACH:
            if np.linalg.norm(grasp[:2] + style.aim_m - tip[:2]) < 0.015 and tip[2] - grasp[2] < style.hover_m + 0.03:
                self._anchored(Phase.DESCEND, now, tip)
        elif self.phase is Phase.DESCEND:
            if tip[2] - grasp[2] < _GRASP_HEIGHT_M and self._aim_error(grasp - tip) < _GRASP_AIM_M:
                self._anchored(Phase.CLOSE, now, grasp)
                self._pads = (view.gripper, now + style.pause_s + 0.1)
        elif self.phase is Phase.CLOSE:
            self._watch_pads(view.gripper, now)
            if now - self._pads[1] >= _SETTLED_S:
                if view.gripper > self._grip.empty:
                    self._retry()
                else:
                    self._anchored(Phase.LIFT, now, tip)
        elif tip[2] - grasp[2] > _SLIPPED_M:
            self._retry()  # it slipped out
        elif self.phase is Phase.LIFT and tip[2] - self._anchor[2] > style.lift_m - 0.01:
            self._anchored(Phase.HOLD, now, self._anchor)

    def _anchored(self, phase: Phase, now: float, anchor: np.ndarray) -> None:
        self._enter(phase, now)
        self._anchor = anchor.copy()

    def _watch_pads(self, gripper: float, now: float) -> None:
        """Remember when the pads last moved."""
        position, moved_at = self._pads
        if abs(gripper - position) > 0.01:
            self._pads = (gripper, max(now, moved_at))

    def _retry(self) -> None:
        self.phase, self._yaw = Phase.REACH, None
        self._style = draw_style(self._random)

    def _gripper(self) -> float:
        if self.phase is Phase.CLOSE and self._time is not None and self._time - self._since < self._style.pause_s:
            return 0.0
        return 0.0 if self.phase in (Phase.REACH, Phase.DESCEND) else 1.0

    def _goal(self, tip: np.ndarray, grasp: np.ndarray) -> tuple[np.ndarray, float]:
        """(3,) m where the tip should go, and how fast (m/s)."""
        style = self._style
        aim = np.array([*style.aim_m, 0.0])
        if self.phase is Phase.REACH:
            return grasp + aim + [0.0, 0.0, style.hover_m], style.reach_speed
        if self.phase is Phase.DESCEND:
            # The aim's error fades on the way down, as the eye corrects the hand; far off, it waits above.
            left = np.clip((tip[2] - grasp[2] - 0.02) / style.hover_m, 0.0, 1.0)
            off = self._aim_error(grasp + aim * left - tip)
            wait = np.clip((off - _GRASP_AIM_M) / _GRASP_AIM_M, 0.0, 1.0) * 0.05
            return grasp + aim * left + [0.0, 0.0, wait], style.descend_speed
        if self.phase is Phase.CLOSE:
            return self._anchor, style.descend_speed
        return self._anchor + np.array([*style.lift_drift_m, style.lift_m]), style.lift_speed

    def _aim_error(self, offset: np.ndarray) -> float:
        """How far off the aim is, m, weighted by what the pads forgive."""
        c, s = math.cos(self._yaw or 0.0), math.sin(self._yaw or 0.0)
        across, along = c * offset[0] + s * offset[1], s * offset[0] - c * offset[1]
        return math.hypot(across, _STROKE_WEIGHT * along)

    def _approach(self, offset: np.ndarray, speed: float) -> np.ndarray:
        """(3,) m/s towards something at `offset` (m); close to the object, aim does not wait for height."""
        if self.phase in (Phase.DESCEND, Phase.CLOSE):
            down = np.clip(GRASP_GAIN * offset[2], -speed, speed)
            return np.append(towards(offset[:2], GRASP_GAIN, self._style.reach_speed), down)
        return towards(offset, REACH_GAIN, speed)
