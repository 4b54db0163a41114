"""The experts that use the closed hand as a finger: pressing a button, pushing a cup."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from robosteer_sim.grips import nearest_turn, tool_yaw, yaw_of
from robosteer_sim.motion import Expert, Move, Phase, View, downward, towards
from robosteer_sim.shapes import BUTTON_TRAVEL_M

_GAIN = 3.0  # 1/s
_FINGERTIP_M = 0.017  # below the point between the pads
_SLIPPED_M = 0.08  # of the finger from where it should push
_BACK_M = 0.011  # of the closed fingers: from their middle to the side that pushes


@dataclasses.dataclass(frozen=True)
class TouchStyle:
    """How one operator touches things in one episode.

    Attributes:
        reach_speed: m/s.
        touch_speed: m/s, downwards or pushing.
        hover_m: height above, before the descent.
        aim_m: (2,) error of the first aim, corrected during the descent.
        via_m: (2,) sideways detour on the way, fading towards the goal.
        pause_s: at the end of the touch.
        height_m: of the fingertips over the table while they push.
        retreat_m: how far the hand goes away in the end.
    """

    reach_speed: float
    touch_speed: float
    hover_m: float
    aim_m: np.ndarray
    via_m: np.ndarray
    pause_s: float
    height_m: float
    retreat_m: float


def draw_touch_style(random: np.random.Generator) -> TouchStyle:
    """A human-like variation."""
    return TouchStyle(
        reach_speed=random.uniform(0.15, 0.21),
        touch_speed=random.uniform(0.06, 0.09),
        hover_m=random.uniform(0.05, 0.08),
        aim_m=np.clip(random.normal(0.0, 0.006, 2), -0.012, 0.012),
        via_m=random.normal(0.0, 0.02, 2),
        pause_s=random.uniform(0.1, 0.3),
        height_m=random.uniform(0.008, 0.02),
        retreat_m=random.uniform(0.06, 0.09),
    )


class TouchExpert(Expert):
    """What both have in common: the way there with closed fingers, and the way out."""

    tremor = 0.005

    def __init__(self, target: str, random: np.random.Generator) -> None:
        """Prepare an episode.

        Args:
            target: name of the object to touch.
            random: source of the human-like variation.
        """
        super().__init__(random)
        self.target = target
        self._style = draw_touch_style(random)
        self._anchor = np.zeros(3)
        self._far_m: float | None = None
        self._yaw = 0.0
        self._finished = False

    @property
    def done(self) -> bool:
        """Whether the touch had its effect and the hand is out of the way."""
        return self._finished

    def _begin(self, view: View, yaw: float, way_m: float) -> None:
        """Note an attempt."""
        self.attempts += 1
        self._since, self._yaw, self._far_m = view.now, yaw, max(0.05, way_m)

    def _anchored(self, phase: Phase, view: View) -> None:
        self._enter(phase, view.now)
        self._anchor = view.tip.copy()

    def _retry(self) -> None:
        self.phase, self._far_m = Phase.REACH, None
        self._style = draw_touch_style(self._random)

    def _reach(self, view: View, above: np.ndarray) -> np.ndarray:
        """(3,) m/s on the way to above the place of the touch."""
        offset = above - view.tip
        far = float(np.linalg.norm(offset[:2]))
        detour = self._style.via_m * min(1.0, far / (self._far_m or 1.0)) * (far > 0.05)
        return towards(offset + np.append(detour, 0.0), _GAIN, self._style.reach_speed)

    def _move(self, velocity: np.ndarray, *, steady: bool = False) -> Move:
        return Move(velocity, downward(self._yaw), 1.0, steady)


class PressExpert(TouchExpert):
    """Presses a button down to its stop."""

    def __init__(self, target: str, random: np.random.Generator) -> None:
        """As for every touch."""
        super().__init__(target, random)
        self._rest_z: float | None = None

    def _decide(self, view: View) -> Move:
        pose = view.poses[self.target]
        if self._rest_z is None:
            self._rest_z = float(pose[2])
        if self._far_m is None:
            yaw = nearest_turn(tool_yaw(view.tool), yaw_of(pose), math.pi / 2)
            self._begin(view, yaw, math.dist(view.tip[:2], pose[:2]))
        contact = np.array([*pose[:2], self._rest_z + _FINGERTIP_M])
        self._advance(view, contact, self._rest_z - float(pose[2]))
        style = self._style
        if self.phase is Phase.REACH:
            return self._move(self._reach(view, contact + np.append(style.aim_m, style.hover_m)))
        if self.phase is Phase.RETREAT:
            up = self._anchor + np.array([0.0, 0.0, style.retreat_m])
            return self._move(towards(up - view.tip, _GAIN, style.reach_speed))
        stop = contact - [0.0, 0.0, BUTTON_TRAVEL_M + 0.004]
        down = np.clip(2 * _GAIN * (stop[2] - view.tip[2]), -style.touch_speed, style.touch_speed)
        sideways = towards(contact[:2] - view.tip[:2], _GAIN, style.touch_speed)
        return self._move(np.append(sideways, down), steady=self.phase is Phase.PRESS)

    def _advance(self, view: View, contact: np.ndarray, pressed_m: float) -> None:
        style = self._style
        offset = view.tip - contact
        if self.phase is Phase.REACH:
            if np.linalg.norm(offset[:2] - style.aim_m) < 0.012 and offset[2] < style.hover_m + 0.02:
                self._anchored(Phase.DESCEND, view)
        elif self.phase is Phase.DESCEND:
            if pressed_m > 0.95 * BUTTON_TRAVEL_M:
                self._anchored(Phase.PRESS, view)
        elif self.phase is Phase.PRESS:
            if view.now - self._since > style.pause_s:
                self._anchored(Phase.RETREAT, view)
        elif offset[2] > style.retreat_m - 0.02:
            self._finished = True


class PushExpert(TouchExpert):
    """Pushes an object over the table until it touches another one."""

    def __init__(self, target: str, goal: str, radii_m: tuple[float, float], random: np.random.Generator) -> None:
        """Prepare an episode.

        Args:
            target: name of the object to push.
            goal: name of the object to push it to.
            radii_m: of both where they meet.
            random: source of the human-like variation.
        """
        super().__init__(target, random)
        self.goal = goal
        self._goal_start: np.ndarray | None = None
        self._radius, self._together = radii_m[0], sum(radii_m)

    def _decide(self, view: View) -> Move:
        cup, bowl = view.poses[self.target][:2], view.poses[self.goal][:2]
        way = bowl - cup
        if self._goal_start is None:
            self._goal_start = bowl
        # Both are not quite round: they have met when one is deep in the other's circle, or moves it.
        met = np.linalg.norm(way) < self._together - 0.002 or math.dist(bowl, self._goal_start) > 0.004
        way = way / np.linalg.norm(way)
        behind = cup - way * (self._radius + _BACK_M)
        height = self._style.height_m + _FINGERTIP_M
        if self._far_m is None:
            yaw = nearest_turn(tool_yaw(view.tool), math.atan2(way[1], way[0]), math.pi)
            self._begin(view, yaw, math.dist(view.tip[:2], behind))
        start = np.array([*(behind - way * 0.02), height])
        self._advance(view, start, behind, way, bool(met))
        return self._go(view, start, behind, way)

    def _advance(self, view: View, start: np.ndarray, behind: np.ndarray, way: np.ndarray, met: bool) -> None:
        style, tip = self._style, view.tip
        if self.phase is Phase.REACH:
            if np.linalg.norm(tip[:2] - start[:2] - style.aim_m) < 0.012 and tip[2] - start[2] < style.hover_m + 0.07:
                self._anchored(Phase.DESCEND, view)
        elif self.phase is Phase.DESCEND:
            if tip[2] - start[2] < 0.01:
                self._anchored(Phase.PUSH, view)
        elif self.phase is Phase.PUSH:
            off = tip[:2] - behind
            across = abs(float(way[0] * off[1] - way[1] * off[0]))
            if met:
                self._anchored(Phase.RETREAT, view)
            elif across > 0.9 * self._radius or np.linalg.norm(off) > _SLIPPED_M:
                self._retry()  # the cup is not in front of the finger any more
        elif tip[2] - self._anchor[2] > style.retreat_m - 0.015:
            self._finished = True

    def _go(self, view: View, start: np.ndarray, behind: np.ndarray, way: np.ndarray) -> Move:
        style, tip = self._style, view.tip
        if self.phase is Phase.REACH:
            return self._move(self._reach(view, start + np.append(style.aim_m, style.hover_m + 0.05)))
        if self.phase is Phase.DESCEND:
            offset = start - tip
            down = np.clip(2 * _GAIN * offset[2], -2 * style.touch_speed, 2 * style.touch_speed)
            return self._move(np.append(towards(offset[:2], _GAIN, style.reach_speed), down))
        if self.phase is Phase.RETREAT:
            out = self._anchor + np.append(-0.03 * way, style.retreat_m)
            return self._move(towards(out - tip, _GAIN, style.reach_speed))
        self._yaw = nearest_turn(self._yaw, math.atan2(way[1], way[0]), math.pi)
        off = behind - tip[:2]
        across = off - way * float(off @ way)
        # The finger keeps behind the cup; the farther it is off, the slower it pushes.
        ahead = style.touch_speed * float(np.clip(1.0 - np.linalg.norm(across) / 0.02, 0.1, 1.0))
        rise = np.clip(_GAIN * (start[2] - tip[2]), -style.touch_speed, style.touch_speed)
        return self._move(np.append(way * ahead + towards(across, 2 * _GAIN, style.touch_speed), rise), steady=True)
