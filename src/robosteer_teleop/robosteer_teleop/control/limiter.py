"""The discrete-time second-order limiter: a target that follows a goal within speed, acceleration, box and leash.

Speeds and accelerations are bounded as vectors, so that directions are not bent. Near the goal the speed is

    min(speed, gain d, sqrt(2 a d + (a dt / 2)^2) - a dt / 2)

whose last term is the largest speed from which steps of a·dt still stop within d; the textbook's sqrt(2 a d) overshoots
by up to 2.5 mm at 200 Hz.

Box and leash are kept by construction, not by clamping the target (a clamp is a jump). Each step must leave a state
from which braking straight ahead stops inside; the step that brakes now always does, because the previous state was
such a one. Between it and the wanted step the farthest allowed one is taken; any blend of the two keeps the
acceleration bound, and box and leash are checked for each. Both are convex: if start and stop are inside, the way is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from robosteer_teleop.control.frames import Pose
from robosteer_teleop.control.presets import Bounds, MotionLimits
from robosteer_teleop.control.rotations import angle_between, exp, length, log

_BISECTIONS = 7
_TOLERANCE = 1e-9

Excess = Callable[[np.ndarray], float]


@dataclasses.dataclass(frozen=True)
class Motion:
    """The target.

    Attributes:
        pose: where it is, base frame.
        linear: (3,) m/s, how it got there.
        angular: (3,) rad/s, base frame.
    """

    pose: Pose
    linear: np.ndarray
    angular: np.ndarray

    @classmethod
    def at_rest(cls, pose: Pose) -> Motion:
        """A target that stands still."""
        return cls(pose, np.zeros(3), np.zeros(3))


@dataclasses.dataclass(frozen=True)
class Limited:
    """One step's result.

    Attributes:
        motion: the new target.
        box: the box held it back.
        leash: the leash held it back.
        speed: the speed limit held it back.
    """

    motion: Motion
    box: bool
    leash: bool
    speed: bool


def approach_speed(distance: float, speed: float, acceleration: float, gain: float, dt: float) -> float:
    """Largest speed towards a goal at `distance` (m or rad) that still stops there."""
    half = acceleration * dt / 2.0
    return min(speed, gain * distance, math.sqrt(2.0 * acceleration * distance + half * half) - half)


def braking_distance(speed: float, acceleration: float, dt: float) -> float:
    """Distance covered after this step when every further step brakes by acceleration·dt."""
    drop = acceleration * dt
    steps = math.floor(speed / drop)
    return dt * (steps * speed - drop * steps * (steps + 1) / 2.0)


def _brake(velocity: np.ndarray, reach: float) -> np.ndarray:
    speed = length(velocity)
    return velocity * (1.0 - reach / speed) if speed > reach else np.zeros(3)


def _step_towards(
    error: np.ndarray, velocity: np.ndarray, cap: float, limits: tuple[float, float], dt: float
) -> tuple[np.ndarray, bool]:
    """Wanted velocity within the acceleration bound.

    Args:
        error: (3,) to the goal.
        velocity: (3,) present.
        cap: speed.
        limits: acceleration and gain.
        dt: s.

    Returns:
        The velocity (3,), and whether the speed limit bound it.
    """
    acceleration, gain = limits
    distance = length(error)
    speed = approach_speed(distance, cap, acceleration, gain, dt)
    wanted = error * (speed / distance) if distance > 1e-12 else np.zeros(3)
    change = wanted - velocity
    size, reach = length(change), acceleration * dt
    if size > reach:
        change = change * (reach / size)
    return velocity + change, speed >= cap


def _farthest(brake: np.ndarray, wanted: np.ndarray, excesses: Sequence[Excess]) -> tuple[np.ndarray, list[bool]]:
    """The velocity between `brake` and `wanted` nearest to `wanted` that breaks nothing more than braking does.

    Returns:
        The velocity (3,), and which of the excesses forbade `wanted`.
    """
    allowed = [excess(brake) + _TOLERANCE for excess in excesses]
    held = [excess(wanted) > most for excess, most in zip(excesses, allowed, strict=True)]
    if not any(held):
        return wanted, held
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        blend = brake + middle * (wanted - brake)
        if all(excess(blend) <= most for excess, most in zip(excesses, allowed, strict=True)):
            low = middle
        else:
            high = middle
    return brake + low * (wanted - brake), held


class _Space:
    """Where the target may stop at this moment. A target that starts outside the box may only move further in."""

    def __init__(self, bounds: Bounds, target: Pose, measured: Pose) -> None:
        self.lower = np.minimum(bounds.lower, target.position)
        self.upper = np.maximum(bounds.upper, target.position)
        self.measured = measured
        self.leash_m, self.leash_rad = bounds.leash_m, bounds.leash_rad

    def box_excess(self, position: np.ndarray) -> float:
        """Distance (m) outside the box, largest axis."""
        return max(0.0, float(np.max(self.lower - position)), float(np.max(position - self.upper)))

    def leash_excess(self, position: np.ndarray) -> float:
        """Distance (m) beyond the leash."""
        return max(0.0, length(position - self.measured.position) - self.leash_m)

    def clamp(self, goal: Pose) -> tuple[Pose, bool, bool]:
        """The nearest goal inside, and whether box and leash moved it."""
        position = np.clip(goal.position, self.lower, self.upper)
        box = bool((position != goal.position).any())
        offset = position - self.measured.position
        distance = length(offset)
        turn = log(goal.rotation @ self.measured.rotation.T)
        angle = length(turn)
        leash = distance > self.leash_m or angle > self.leash_rad
        if distance > self.leash_m:
            # Towards a measured point outside the box the line may leave it again; the box goes first.
            position = np.clip(self.measured.position + offset * (self.leash_m / distance), self.lower, self.upper)
        rotation = goal.rotation
        if angle > self.leash_rad:
            rotation = exp(turn * (self.leash_rad / angle)) @ self.measured.rotation
        return Pose(position, rotation), box, leash


class PoseLimiter:
    """Carries the target from step to step."""

    def __init__(self, bounds: Bounds) -> None:
        """Start without a target; call `rest_at` first."""
        self._bounds = bounds
        self.motion: Motion | None = None

    def rest_at(self, pose: Pose) -> None:
        """Put the target somewhere, at rest."""
        self.motion = Motion.at_rest(pose)

    def stop(self) -> None:
        """Hold the present target at once; the one step in velocity that is allowed, because it is the fault's."""
        if self.motion is not None:
            self.motion = Motion.at_rest(self.motion.pose)

    def step(self, goal: Pose, measured: Pose, limits: MotionLimits, dt: float) -> Limited:
        """Advance the target by one tick.

        Args:
            goal: where it should go, base frame.
            measured: the arm's pose now, for the leash.
            limits: of speed and acceleration.
            dt: s, the same at every tick.
        """
        if self.motion is None:
            raise RuntimeError("PoseLimiter.step before rest_at")
        motion, space = self.motion, _Space(self._bounds, self.motion.pose, measured)
        inside, box, leash = space.clamp(goal)
        linear, fast, held_box, held_leash = self._linear(motion, inside, space, limits, dt)
        angular, turning, held_turn = self._angular(motion, inside, space, limits, dt)
        pose = Pose(motion.pose.position + linear * dt, exp(angular * dt) @ motion.pose.rotation)
        self.motion = Motion(pose, linear, angular)
        return Limited(self.motion, box or held_box, leash or held_leash or held_turn, fast or turning)

    def _linear(
        self, motion: Motion, goal: Pose, space: _Space, limits: MotionLimits, dt: float
    ) -> tuple[np.ndarray, bool, bool, bool]:
        position, acceleration = motion.pose.position, limits.acceleration
        wanted, fast = _step_towards(
            goal.position - position, motion.linear, limits.speed, (acceleration, limits.gain), dt
        )

        def stop(velocity: np.ndarray) -> np.ndarray:
            speed = length(velocity)
            ahead = braking_distance(speed, acceleration, dt) / speed if speed > 0 else 0.0
            return position + velocity * (dt + ahead)

        velocity, (box, leash) = _farthest(
            _brake(motion.linear, acceleration * dt),
            wanted,
            [lambda v: space.box_excess(stop(v)), lambda v: space.leash_excess(stop(v))],
        )
        return velocity, fast, box, leash

    def _angular(
        self, motion: Motion, goal: Pose, space: _Space, limits: MotionLimits, dt: float
    ) -> tuple[np.ndarray, bool, bool]:
        rotation, acceleration = motion.pose.rotation, limits.angular_acceleration
        error = log(goal.rotation @ rotation.T)
        wanted, fast = _step_towards(error, motion.angular, limits.angular_speed, (acceleration, limits.gain), dt)

        def excess(velocity: np.ndarray) -> float:
            speed = length(velocity)
            ahead = braking_distance(speed, acceleration, dt) / speed if speed > 0 else 0.0
            end = exp(velocity * (dt + ahead)) @ rotation
            return max(0.0, angle_between(end, space.measured.rotation) - space.leash_rad)

        angular, (held,) = _farthest(_brake(motion.angular, acceleration * dt), wanted, [excess])
        return angular, fast, held
