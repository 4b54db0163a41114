"""The scripted expert: picks an object up the way a practised operator does, from joint positions and object poses.

It closes the loop on what it is told, so it works at any rate and under latency: 15 Hz in this process, 50 Hz over ROS.
Nearly all of its command depends on the present state only, which is what makes its demonstrations learnable; the seed
varies speed, via points, aim and timing.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping

import numpy as np

from robosteer_rig.kinematics import damped_least_squares, forward_kinematics
from robosteer_sim.gripper import tool_in_flange
from robosteer_sim.panda import READY_POSITION

MAX_JOINT_SPEED = 0.95
"""rad/s; the whole vector is scaled down beyond it, so that the direction stays."""
MAX_JOINT_ACCELERATION = 6.0
"""rad/s^2, of the command."""
_REACH_GAIN = 3.0  # 1/s: speed per distance near a target
_GRASP_GAIN = 5.0  # 1/s: the same close to the object, where aim matters
_TURN_GAIN = 3.0  # 1/s
_MAX_TURN_SPEED = 0.8  # rad/s
_POSTURE_GAIN = 0.5  # 1/s
_GRASP_ABOVE_CENTRE_M = 0.004
_GRASP_HEIGHT_M = 0.009  # low enough to close: above the grasp point
_GRASP_AIM_M = 0.011  # well enough aimed to close: half the pads' width
_STROKE_WEIGHT = 0.65  # errors along the stroke matter less: the closing pads centre the object
_SETTLED_S = 0.15  # the pads count as closed when they have not moved for this long
_EMPTY = 0.9  # a gripper closed further than this holds nothing
_TOOL = tool_in_flange()


class Phase(enum.Enum):
    """What the expert is doing."""

    REACH = "reach"
    DESCEND = "descend"
    CLOSE = "close"
    LIFT = "lift"
    HOLD = "hold"


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
        tremor: m/s, standard deviation of a slow unsteadiness.
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
    tremor: float = 0.006


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


def downward(yaw: float) -> np.ndarray:
    """(3, 3): the tool pointing down, its x axis at `yaw` (rad) from the base's x axis."""
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c, s, 0.0], [s, -c, 0.0], [0.0, 0.0, -1.0]])


def rotation_error(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(3,) rad: the rotation vector that turns `found` into `wanted`, both (3, 3), in the base frame."""
    turn = wanted @ found.T
    axis = 0.5 * np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    sine = float(np.linalg.norm(axis))
    if sine < 1e-9:
        return axis
    return axis / sine * math.atan2(sine, (float(np.trace(turn)) - 1.0) / 2.0)


def grasp_yaw(pose: np.ndarray, tool: np.ndarray) -> float:
    """The tool yaw (rad) that squares the pads with a cube and is nearest to the present one.

    Args:
        pose: (7,) of the cube: position m, quaternion w, x, y, z.
        tool: (4, 4) present tool pose.
    """
    w, x, y, z = pose[3:]
    cube = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    present = math.atan2(tool[1, 0], tool[0, 0])
    quarter = math.pi / 2
    return present + (cube - present + quarter / 2) % quarter - quarter / 2


class Expert:
    """One attempt after another at picking `target` up, until it holds it.

    Attributes:
        phase: what it is doing.
        attempts: how many grasps it has begun.
    """

    def __init__(self, target: str, random: np.random.Generator) -> None:
        """Prepare an episode.

        Args:
            target: name of the object to pick up.
            random: source of the human-like variation.
        """
        self.target = target
        self.phase = Phase.REACH
        self.attempts = 0
        self._random = random
        self._style = draw_style(random)
        self._time: float | None = None
        self._since = 0.0
        self._yaw: float | None = None
        self._anchor = np.zeros(3)
        self._velocity = np.zeros(7)
        self._tremor = np.zeros(3)
        self._pads = (0.0, 0.0)

    @property
    def done(self) -> bool:
        """Whether the object has been held up long enough."""
        return self.phase is Phase.HOLD and self._time is not None and self._time - self._since >= self._style.hold_s

    def act(
        self,
        joint_position: np.ndarray,
        gripper_position: float,
        object_poses: Mapping[str, np.ndarray],
        time_s: float,
    ) -> tuple[np.ndarray, float]:
        """Decide the command for now.

        Args:
            joint_position: (7,) measured, rad.
            gripper_position: measured, 0 open ... 1 closed.
            object_poses: object name -> (7,) position m and quaternion w, x, y, z in the base frame.
            time_s: any clock that does not go back.

        Returns:
            (7,) joint velocities in rad/s, and the gripper command, 0 open ... 1 closed.
        """
        period = 0.0 if self._time is None else max(0.0, time_s - self._time)
        twist, gripper = self.steer(joint_position, gripper_position, object_poses, time_s)
        wanted = damped_least_squares(
            joint_position, twist, tool=_TOOL, posture=READY_POSITION, posture_gain=_POSTURE_GAIN
        )
        return self._smooth(wanted, period), gripper

    def steer(
        self,
        joint_position: np.ndarray,
        gripper_position: float,
        object_poses: Mapping[str, np.ndarray],
        time_s: float,
    ) -> tuple[np.ndarray, float]:
        """Decide how the tool should move now; arguments as for `act`.

        Returns:
            (6,) twist of the tool in the base frame, m/s and rad/s, and the gripper command, 0 open ... 1 closed.
        """
        period = 0.0 if self._time is None else max(0.0, time_s - self._time)
        self._time = time_s
        tool = forward_kinematics(joint_position, _TOOL)
        pose = object_poses[self.target]
        if self._yaw is None:
            self._yaw, self._since, self.attempts = grasp_yaw(pose, tool), time_s, self.attempts + 1
        self._advance(tool[:3, 3], pose, gripper_position, time_s)
        goal, speed = self._goal(tool[:3, 3], pose)
        return self._twist(tool, goal, speed, period), self._gripper()

    def _enter(self, phase: Phase, time_s: float, anchor: np.ndarray) -> None:
        self.phase, self._since, self._anchor = phase, time_s, anchor.copy()

    def _advance(self, tip: np.ndarray, pose: np.ndarray, gripper: float, now: float) -> None:
        """Change to another phase when the present one has done its work."""
        style, grasp = self._style, _grasp_point(pose)
        if self.phase is Phase.REACH:
            if np.linalg.norm(grasp[:2] + style.aim_m - tip[:2]) < 0.015 and tip[2] - grasp[2] < style.hover_m + 0.03:
                self._enter(Phase.DESCEND, now, tip)
        elif self.phase is Phase.DESCEND:
            if tip[2] - grasp[2] < _GRASP_HEIGHT_M and self._aim_error(grasp - tip) < _GRASP_AIM_M:
                self._enter(Phase.CLOSE, now, grasp)
                self._pads = (gripper, now + style.pause_s + 0.1)
        elif self.phase is Phase.CLOSE:
            self._watch_pads(gripper, now)
            if now - self._pads[1] >= _SETTLED_S:
                if gripper > _EMPTY:
                    self._retry()
                else:
                    self._enter(Phase.LIFT, now, tip)
        elif tip[2] - grasp[2] > 0.05:
            self._retry()  # it slipped out
        elif self.phase is Phase.LIFT and tip[2] - self._anchor[2] > style.lift_m - 0.01:
            self._enter(Phase.HOLD, now, self._anchor)

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

    def _goal(self, tip: np.ndarray, pose: np.ndarray) -> tuple[np.ndarray, float]:
        """(3,) m where the tip should go, and how fast (m/s)."""
        style, grasp = self._style, _grasp_point(pose)
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

    def _twist(self, tool: np.ndarray, goal: np.ndarray, speed: float, period: float) -> np.ndarray:
        """(6,) tool velocity towards the goal, in the base frame."""
        linear = self._approach(goal - tool[:3, 3], speed)
        turn = rotation_error(downward(self._yaw or 0.0), tool[:3, :3]) * _TURN_GAIN
        angle = float(np.linalg.norm(turn))
        turn *= min(1.0, _MAX_TURN_SPEED / max(angle, 1e-9))
        return np.concatenate([linear + self._unsteady(period), turn])

    def _aim_error(self, offset: np.ndarray) -> float:
        """How far off the aim is, m, weighted by what the pads forgive."""
        c, s = math.cos(self._yaw or 0.0), math.sin(self._yaw or 0.0)
        across, along = c * offset[0] + s * offset[1], s * offset[0] - c * offset[1]
        return math.hypot(across, _STROKE_WEIGHT * along)

    def _approach(self, offset: np.ndarray, speed: float) -> np.ndarray:
        """(3,) m/s towards something at `offset` (m); close to the object, aim does not wait for height."""
        if self.phase in (Phase.DESCEND, Phase.CLOSE):
            down = np.clip(_GRASP_GAIN * offset[2], -speed, speed)
            return np.append(_towards(offset[:2], _GRASP_GAIN, self._style.reach_speed), down)
        return _towards(offset, _REACH_GAIN, speed)

    def _unsteady(self, period: float) -> np.ndarray:
        """(3,) m/s: a slow random motion (Ornstein-Uhlenbeck, 0.3 s), the same strength at any rate."""
        keep = math.exp(-period / 0.3)
        kick = self._style.tremor * math.sqrt(1.0 - keep**2)
        self._tremor = keep * self._tremor + kick * self._random.standard_normal(3)
        return self._tremor if self.phase in (Phase.REACH, Phase.DESCEND, Phase.LIFT) else np.zeros(3)

    def _smooth(self, wanted: np.ndarray, period: float) -> np.ndarray:
        """(7,) rad/s within the speed limit, and within the acceleration limit of the last command."""
        wanted = wanted * min(1.0, MAX_JOINT_SPEED / max(float(np.abs(wanted).max()), 1e-9))
        change = wanted - self._velocity
        reach = MAX_JOINT_ACCELERATION * period
        self._velocity = self._velocity + change * min(1.0, reach / max(float(np.abs(change).max()), 1e-9))
        return self._velocity.copy()


def _towards(offset: np.ndarray, gain: float, speed: float) -> np.ndarray:
    """Velocity (m/s) proportional to the offset (m), at most `speed`."""
    return offset * min(gain, speed / max(float(np.linalg.norm(offset)), 1e-9))


def _grasp_point(pose: np.ndarray) -> np.ndarray:
    return pose[:3] + np.array([0.0, 0.0, _GRASP_ABOVE_CENTRE_M])
