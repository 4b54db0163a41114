"""How a practised operator's hand moves: towards a goal, smoothly, a little unsteadily, within the arm's limits.

An expert closes the loop on what it is told, so it works at any rate and under latency: 15 Hz in this process, 50 Hz
over ROS. Nearly all of its command depends on the present state only, which is what makes its demonstrations learnable;
the seed varies speed, via points, aim and timing.
"""

from __future__ import annotations

import abc
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
_TURN_GAIN = 3.0  # 1/s
_MAX_TURN_SPEED = 0.8  # rad/s
_POSTURE_GAIN = 0.5  # 1/s
_TOOL = tool_in_flange()


class Phase(enum.Enum):
    """What an expert is doing."""

    REACH = "reach"
    DESCEND = "descend"
    CLOSE = "close"
    LIFT = "lift"
    HOLD = "hold"
    CARRY = "carry"
    LOWER = "lower"
    OPEN = "open"
    PRESS = "press"
    PUSH = "push"
    RETREAT = "retreat"


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What an expert is told.

    Attributes:
        joint_position: (7,) rad.
        gripper: 0 open ... 1 closed.
        poses: object name -> (7,) position m and quaternion w, x, y, z in the base frame.
        time_s: any clock that does not go back.
    """

    joint_position: np.ndarray
    gripper: float
    poses: Mapping[str, np.ndarray]
    time_s: float


@dataclasses.dataclass(frozen=True)
class View:
    """What an expert sees.

    Attributes:
        tool: (4, 4) pose of the point between the pads, base frame.
        gripper: 0 open ... 1 closed.
        poses: object name -> (7,) position m and quaternion w, x, y, z.
        now: s, any clock that does not go back.
    """

    tool: np.ndarray
    gripper: float
    poses: Mapping[str, np.ndarray]
    now: float

    @property
    def tip(self) -> np.ndarray:
        """(3,) m: the point between the pads."""
        return self.tool[:3, 3]


@dataclasses.dataclass(frozen=True)
class Move:
    """How the tool should move now.

    Attributes:
        velocity: (3,) m/s in the base frame.
        attitude: (3, 3) to turn to.
        gripper: 0 open ... 1 closed.
        steady: whether the hand rests on something and does not tremble.
    """

    velocity: np.ndarray
    attitude: np.ndarray
    gripper: float
    steady: bool = False


class Expert(abc.ABC):
    """One attempt after another at a task, until it is done.

    Attributes:
        phase: what it is doing.
        attempts: how many it has begun.
    """

    tremor: float
    """m/s, standard deviation of a slow unsteadiness."""

    def __init__(self, random: np.random.Generator) -> None:
        """Prepare an episode.

        Args:
            random: source of the human-like variation.
        """
        self.phase = Phase.REACH
        self.attempts = 0
        self._random = random
        self._time: float | None = None
        self._since = 0.0
        self._velocity = np.zeros(7)
        self._unsteadiness = np.zeros(3)

    @property
    @abc.abstractmethod
    def done(self) -> bool:
        """Whether there is nothing more to do."""

    @abc.abstractmethod
    def _decide(self, view: View) -> Move:
        """Change to another phase if it is time, and say how to move."""

    def act(self, now: Measurement) -> tuple[np.ndarray, float]:
        """Decide the command for now.

        Returns:
            (7,) joint velocities in rad/s, and the gripper command, 0 open ... 1 closed.
        """
        period = self._period(now.time_s)
        twist, gripper = self.steer(now)
        wanted = damped_least_squares(
            now.joint_position, twist, tool=_TOOL, posture=READY_POSITION, posture_gain=_POSTURE_GAIN
        )
        return self._smooth(wanted, period), gripper

    def steer(self, now: Measurement) -> tuple[np.ndarray, float]:
        """Decide how the tool should move now.

        Returns:
            (6,) twist of the tool in the base frame, m/s and rad/s, and the gripper command, 0 open ... 1 closed.
        """
        period = self._period(now.time_s)
        self._time = now.time_s
        tool = forward_kinematics(now.joint_position, _TOOL)
        move = self._decide(View(tool, now.gripper, now.poses, now.time_s))
        turn = rotation_error(move.attitude, tool[:3, :3]) * _TURN_GAIN
        angle = float(np.linalg.norm(turn))
        turn *= min(1.0, _MAX_TURN_SPEED / max(angle, 1e-9))
        return np.concatenate([move.velocity + self._unsteady(period, move.steady), turn]), move.gripper

    def _period(self, time_s: float) -> float:
        """Since the last decision, s."""
        return 0.0 if self._time is None else max(0.0, time_s - self._time)

    def _enter(self, phase: Phase, now: float) -> None:
        self.phase, self._since = phase, now

    def _unsteady(self, period: float, steady: bool) -> np.ndarray:
        """(3,) m/s: a slow random motion (Ornstein-Uhlenbeck, 0.3 s), the same strength at any rate."""
        keep = math.exp(-period / 0.3)
        kick = self.tremor * math.sqrt(1.0 - keep**2)
        self._unsteadiness = keep * self._unsteadiness + kick * self._random.standard_normal(3)
        return np.zeros(3) if steady else self._unsteadiness

    def _smooth(self, wanted: np.ndarray, period: float) -> np.ndarray:
        """(7,) rad/s within the speed limit, and within the acceleration limit of the last command."""
        wanted = wanted * min(1.0, MAX_JOINT_SPEED / max(float(np.abs(wanted).max()), 1e-9))
        change = wanted - self._velocity
        reach = MAX_JOINT_ACCELERATION * period
        self._velocity = self._velocity + change * min(1.0, reach / max(float(np.abs(change).max()), 1e-9))
        return self._velocity.copy()


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


def towards(offset: np.ndarray, gain: float, speed: float) -> np.ndarray:
    """Velocity (m/s) proportional to the offset (m), at most `speed`."""
    return offset * min(gain, speed / max(float(np.linalg.norm(offset)), 1e-9))
