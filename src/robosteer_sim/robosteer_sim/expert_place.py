"""The expert that picks an object up and puts it into another one."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from robosteer_sim.expert import REACH_GAIN, PickExpert
from robosteer_sim.grips import Grip, MarkerGrip, tool_yaw
from robosteer_sim.motion import Move, Phase, View, downward, rotation_error, towards

_OVER_GOAL_M = 0.012
_TURNED_RAD = 0.12
_LOST_M = 0.05  # of the object from where it was between the pads
_LET_GO_M = 0.004  # over what the object is put on
_ON_TOP_M = 0.018
_STUCK_S = 2.5  # what is lowered for so long has met something


@dataclasses.dataclass(frozen=True)
class CarryStyle:
    """How one operator carries one object.

    Attributes:
        carry_speed: m/s.
        lower_speed: m/s.
        clear_m: between the vessel's rim and the object, on the way.
        via_m: (2,) sideways detour on the way, fading towards the goal.
        aim_m: (2,) error of the aim over the goal.
        pause_s: between arriving and opening.
        retreat_m: height of the retreat.
    """

    carry_speed: float
    lower_speed: float
    clear_m: float
    via_m: np.ndarray
    aim_m: np.ndarray
    pause_s: float
    retreat_m: float


def draw_carry_style(random: np.random.Generator) -> CarryStyle:
    """A human-like variation."""
    return CarryStyle(
        carry_speed=random.uniform(0.14, 0.19),
        lower_speed=random.uniform(0.07, 0.10),
        clear_m=random.uniform(0.02, 0.04),
        via_m=random.normal(0.0, 0.02, 2),
        aim_m=np.clip(random.normal(0.0, 0.005, 2), -0.01, 0.01),
        pause_s=random.uniform(0.05, 0.25),
        retreat_m=random.uniform(0.07, 0.10),
    )


class PlaceExpert(PickExpert):
    """Puts `target` into `goal`, and begins again where that failed."""

    def __init__(
        self, target: str, goal: str, rim_m: float, drop_m: float, random: np.random.Generator, grip: Grip
    ) -> None:
        """Prepare an episode.

        Args:
            target: name of the object to place.
            goal: name of the vessel.
            rim_m: height of its rim.
            drop_m: height over its floor at which the object's lowest point is released.
            random: source of the human-like variation.
            grip: how to take hold of the target.
        """
        super().__init__(target, random, grip)
        self.goal = goal
        self._rim_m, self._drop_m = rim_m, drop_m
        self._carry = draw_carry_style(random)
        self._start_m = 1.0
        self._finished = False

    @property
    def done(self) -> bool:
        """Whether the object lies in the vessel and the hand is out of it."""
        return self._finished

    def _decide(self, view: View) -> Move:
        if self.phase is Phase.HOLD:
            self._anchored(Phase.CARRY, view.now, view.tip)
            self._start_m = max(0.05, math.dist(view.tip[:2], view.poses[self.goal][:2]))
        if self.phase not in (Phase.CARRY, Phase.LOWER, Phase.OPEN, Phase.RETREAT):
            return super()._decide(view)
        self._bring(view)
        if self.phase is Phase.REACH:
            return super()._decide(view)
        return self._carried(view)

    def _lowest(self, pose: np.ndarray) -> np.ndarray:
        """(3,) m: the lowest point of the target."""
        return pose[:3] - [0.0, 0.0, 0.02]

    def _aim(self, view: View) -> np.ndarray:
        """(3,) m: where the target's lowest point belongs, on the vessel's floor."""
        return view.poses[self.goal][:3] + np.append(self._carry.aim_m, 0.0)

    def _attitude(self, view: View) -> np.ndarray:
        """(3, 3): the tool's while it carries."""
        return downward(self._yaw if self._yaw is not None else tool_yaw(view.tool))

    def _bring(self, view: View) -> None:
        """Change to another phase when the present one has done its work."""
        carry, now = self._carry, view.now
        pose = view.poses[self.target]
        missing = self._aim(view) - self._lowest(pose)
        if self.phase in (Phase.CARRY, Phase.LOWER) and self._lost(view, pose):
            self._retry()
        elif self.phase is Phase.CARRY:
            turned = np.linalg.norm(rotation_error(self._attitude(view), view.tool[:3, :3])) < _TURNED_RAD
            if np.linalg.norm(missing[:2]) < _OVER_GOAL_M and turned:
                self._anchored(Phase.LOWER, now, view.tip)
        elif self.phase is Phase.LOWER:
            if -missing[2] < self._drop_m + 0.006 or now - self._since > _STUCK_S:
                self._anchored(Phase.OPEN, now, view.tip)
        elif self.phase is Phase.OPEN:
            if now - self._since > carry.pause_s + 0.4:
                self._anchored(Phase.RETREAT, now, view.tip)
        elif view.tip[2] - self._anchor[2] > carry.retreat_m - 0.01:
            self._conclude(view, pose)

    def _conclude(self, view: View, pose: np.ndarray) -> None:
        """Look at the result; another attempt if it is bad."""
        if self._settled(self._lowest(pose) - view.poses[self.goal][:3]):
            self._finished = True
        else:
            self._retry()

    def _settled(self, offset: np.ndarray) -> bool:
        """Whether the target is where it belongs, from the (3,) m between its lowest point and the goal's frame."""
        return math.hypot(*offset[:2]) < 0.06 and bool(offset[2] < self._rim_m)

    def _lost(self, view: View, pose: np.ndarray) -> bool:
        grasp = self._grip.point(pose)
        return float(np.linalg.norm(view.tip - grasp)) > _LOST_M or view.gripper > self._grip.empty

    def _retry(self) -> None:
        super()._retry()
        self._carry = draw_carry_style(self._random)

    def _carried(self, view: View) -> Move:
        """How to move with the object, or away from it."""
        carry, attitude = self._carry, self._attitude(view)
        if self.phase is Phase.RETREAT:
            up = self._anchor + np.array([0.0, 0.0, carry.retreat_m])
            return Move(towards(up - view.tip, REACH_GAIN, carry.carry_speed), attitude, 0.0, steady=True)
        if self.phase is Phase.OPEN:
            opened = view.now - self._since > carry.pause_s
            still = towards(self._anchor - view.tip, REACH_GAIN, carry.lower_speed)
            return Move(still, attitude, 0.0 if opened else 1.0, steady=True)
        missing = self._aim(view) - self._lowest(view.poses[self.target])
        if self.phase is Phase.LOWER:
            down = np.clip(2.0 * (missing[2] + self._drop_m), -carry.lower_speed, carry.lower_speed)
            sideways = towards(missing[:2], REACH_GAIN, carry.carry_speed)
            return Move(np.append(sideways, down), attitude, 1.0)
        return Move(self._over(missing), attitude, 1.0)

    def _over(self, missing: np.ndarray) -> np.ndarray:
        """(3,) m/s on the way to above the vessel: up before sideways."""
        carry = self._carry
        height = missing[2] + self._rim_m + carry.clear_m
        rise = float(np.clip(REACH_GAIN * height, -carry.carry_speed, carry.carry_speed))
        far = float(np.linalg.norm(missing[:2]))
        detour = carry.via_m * min(1.0, far / self._start_m) * (far > 0.05)
        # What is still below the rim keeps its distance from the vessel.
        go = np.clip(1.0 - (height - 0.01) / 0.03, 0.0, 1.0) if far < 0.16 else 1.0
        return np.append(towards(missing[:2] + detour, REACH_GAIN, carry.carry_speed) * go, rise)


class StackExpert(PlaceExpert):
    """Puts a cube or a block on top of another one."""

    def __init__(
        self, target: str, goal: str, halves_m: tuple[float, float], random: np.random.Generator, grip: Grip
    ) -> None:
        """Prepare an episode.

        Args:
            target: name of the object to stack.
            goal: name of the one below.
            halves_m: half the height of both.
            random: source of the human-like variation.
            grip: how to take hold of the target.
        """
        super().__init__(target, goal, 0.0, _LET_GO_M, random, grip)
        self._bottom, self._top = (np.array([0.0, 0.0, half]) for half in halves_m)

    def _lowest(self, pose: np.ndarray) -> np.ndarray:
        return pose[:3] - self._bottom

    def _aim(self, view: View) -> np.ndarray:
        return super()._aim(view) + self._top

    def _settled(self, offset: np.ndarray) -> bool:
        return math.hypot(*offset[:2]) < _ON_TOP_M and abs(offset[2] - self._top[2]) < _ON_TOP_M


class MarkerExpert(PlaceExpert):
    """Puts a marker into a mug, end first: the hand tilts until the marker hangs down."""

    _tilt_rad = math.radians(58)
    _grip: MarkerGrip

    def _lowest(self, pose: np.ndarray) -> np.ndarray:
        return self._grip.low_end(pose)

    def _aim(self, view: View) -> np.ndarray:
        """The lower end goes to one side, so that the slanting marker passes the rim in its middle."""
        heading, inserted = self._grip.heading, self._rim_m - self._drop_m
        back = inserted / 2 / math.tan(self._tilt_rad)
        return super()._aim(view) - [back * math.cos(heading), back * math.sin(heading), 0.0]

    def _attitude(self, view: View) -> np.ndarray:
        c, s = math.cos(self._tilt_rad), math.sin(self._tilt_rad)
        tilted = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
        return downward(self._grip.heading) @ tilted
