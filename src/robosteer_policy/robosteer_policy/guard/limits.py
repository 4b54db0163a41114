"""Hold joint velocities inside velocity, acceleration, jerk and position limits, one control period at a time.

The rule that carries every guarantee: a new velocity is sent only if braking to rest *from it* stays inside all
limits. Because the braking of the next period is the continuation of the braking that was just checked, there is
always one admissible answer, whatever the input does.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from robosteer_policy.guard.workspace import WorkspaceLimits
from robosteer_rig.errors import RobosteerError
from robosteer_rig.parts import Arm, VelocityEnvelope

# Fractions of the way from "brake" to "follow the command" that are tried, boldest first.
_BLENDS = np.array([1.0, 0.75, 0.5, 0.25, 0.0])[:, None]
# Approach position limits with this share of the braking power, so that the exact check below rarely has to bite.
_APPROACH = 0.9
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one arm may do. All arrays are (n,) in the rig's joint order.

    Attributes:
        position_min: rad.
        position_max: rad.
        velocity_max: rad/s, positive.
        acceleration_max: rad/s^2, positive.
        jerk_max: rad/s^3, positive.
        period_s: control period; every limit holds for the command sequence at this period.
        margin_rad: distance kept from both position limits.
        reaction_s: time for which the arm is assumed to keep each speed longer than commanded (controller lag).
        envelope: velocity limits that fall towards the position limits (FR3), where the arm has them.
        workspace: where the arm may go, where the rig says so.
    """

    position_min: np.ndarray
    position_max: np.ndarray
    velocity_max: np.ndarray
    acceleration_max: np.ndarray
    jerk_max: np.ndarray
    period_s: float = 0.01
    margin_rad: float = 0.02
    reaction_s: float = 0.03
    envelope: VelocityEnvelope | None = None
    workspace: WorkspaceLimits | None = None

    def __post_init__(self) -> None:
        size = np.shape(self.position_min)
        for name in ("position_min", "position_max", "velocity_max", "acceleration_max", "jerk_max"):
            value = np.array(getattr(self, name), dtype=np.float64)
            if value.shape != size or value.ndim != 1 or not np.isfinite(value).all():
                raise RobosteerError(f"limits.{name}: found {value.tolist()}, expected {size} finite numbers")
            if name.endswith("max") and name != "position_max" and (value <= 0).any():
                raise RobosteerError(f"limits.{name}: found {value.tolist()}, expected positive numbers")
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        room = self.position_max - self.position_min - 2 * self.margin_rad
        if (room <= 0).any():
            raise RobosteerError(
                f"limits.position: found {room.min():.3f} rad between the margins, expected more than 0"
            )

    @property
    def size(self) -> int:
        """Number of joints."""
        return self.position_min.size

    def speeds(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Largest speeds down and up at a position, both (..., n) rad/s and not negative."""
        if self.envelope is None:
            return self.velocity_max, self.velocity_max
        gain, offset = np.array(self.envelope.gain), np.array(self.envelope.offset)
        down = np.sqrt(np.maximum(gain * (position - self.envelope.lower_zero), 0)) - offset
        up = np.sqrt(np.maximum(gain * (self.envelope.upper_zero - position), 0)) - offset
        return np.clip(down, 0, self.velocity_max), np.clip(up, 0, self.velocity_max)


def arm_limits(
    arm: Arm, period_s: float, speed_limit: float | None = None, workspace: WorkspaceLimits | None = None
) -> Limits:
    """Limits of a rig's arm.

    Args:
        arm: of the rig file.
        period_s: control period.
        speed_limit: rad/s, a lower limit for every joint, for first motions; None for the arm's own.
        workspace: where the arm may go; None leaves only the joint limits.

    Raises:
        RobosteerError: for a speed limit that is not positive.
    """
    fastest = np.minimum(arm.velocity_max, np.inf if speed_limit is None else speed_limit)
    return Limits(
        position_min=np.array(arm.position_min),
        position_max=np.array(arm.position_max),
        velocity_max=fastest,
        acceleration_max=np.array(arm.acceleration_max),
        jerk_max=np.array(arm.jerk_max),
        period_s=period_s,
        envelope=arm.velocity_envelope,
        workspace=workspace,
    )


def ramp_peak(total: np.ndarray, decrement: np.ndarray, period: float) -> np.ndarray:
    """Largest x whose staircase x, x - decrement, x - 2 decrement, ... > 0, each held one period, sums to `total`.

    With `decrement` = acceleration * period it is the largest speed that still stops within the distance `total`;
    with jerk * period it is the largest acceleration that still reaches a speed without overshoot.

    Args:
        total: (..., n) >= 0.
        decrement: (n,) > 0.
        period: s.
    """
    steps = total / (period * decrement)
    n = np.floor((np.sqrt(1 + 8 * steps) - 1) / 2)
    return decrement * (steps + n * (n + 1) / 2) / (n + 1)


def braking(velocity: np.ndarray, acceleration: np.ndarray, limits: Limits) -> np.ndarray:
    """Acceleration of the next period that brings each joint to rest as soon as its own limits allow.

    Args:
        velocity: (..., n) rad/s, as sent in the present period.
        acceleration: (..., n) rad/s^2, change that led to it, divided by the period.
        limits: the arm's.
    """
    change = limits.jerk_max * limits.period_s
    wanted = np.minimum(ramp_peak(np.abs(velocity), change, limits.period_s), limits.acceleration_max)
    wanted = -np.sign(velocity) * wanted
    low = np.maximum(acceleration - change, -limits.acceleration_max)
    high = np.minimum(acceleration + change, limits.acceleration_max)
    return np.clip(wanted, low, high)


def certified(position: np.ndarray, velocity: np.ndarray, acceleration: np.ndarray, limits: Limits) -> np.ndarray:
    """Whether sending `velocity` now and braking from the next period on stays inside every limit.

    Args:
        position: (n,) rad, where the joints are now. A joint that is already outside may only come back.
        velocity: (m, n) rad/s, candidates for the present period.
        acceleration: (m, n) rad/s^2, the change that leads to each candidate.
        limits: the arm's.

    Returns:
        (m,) bool.
    """
    low = np.minimum(limits.position_min + limits.margin_rad, position) - _ROUNDING
    high = np.maximum(limits.position_max - limits.margin_rad, position) + _ROUNDING
    travel = np.broadcast_to(position, velocity.shape).copy()
    good = np.ones(len(velocity), dtype=bool)
    path = []
    # Enough periods for the slowest joint to stop from its top speed, including both jerk ramps.
    longest = limits.velocity_max / limits.acceleration_max + 2 * limits.acceleration_max / limits.jerk_max
    for _ in range(int(np.ceil(longest.max() / limits.period_s)) + 3):
        travel += velocity * limits.period_s
        reach = travel + velocity * limits.reaction_s
        path.append(reach)
        down, up = limits.speeds(travel)
        inside = (velocity <= up + _ROUNDING) & (velocity >= -down - _ROUNDING) & (reach <= high) & (reach >= low)
        good &= inside.all(axis=-1)
        acceleration = braking(velocity, acceleration, limits)
        velocity = velocity + acceleration * limits.period_s
        if not good.any() or (np.abs(velocity).max() < _ROUNDING and np.abs(acceleration).max() < _ROUNDING):
            break
    if limits.workspace is not None and good.any():
        good &= limits.workspace.contains(np.stack(path), position).all(axis=0)
    return good


class Limiter:
    """Turns any finite velocity wish into a sequence that the arm may follow.

    Attributes:
        limits: the arm's.
        velocity: (n,) rad/s, what is being sent.
        acceleration: (n,) rad/s^2, the last change divided by the period.
        limited: whether the last step sent less than the wish.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.velocity = np.zeros(limits.size)
        self.acceleration = np.zeros(limits.size)
        self.limited = False

    @property
    def at_rest(self) -> bool:
        """Whether exact zeros are being sent."""
        return not self.velocity.any()

    def coast(self, speed_loss: float) -> None:
        """Note that the controller has braked every joint by itself.

        Args:
            speed_loss: rad/s.
        """
        slower = np.sign(self.velocity) * np.maximum(np.abs(self.velocity) - max(speed_loss, 0.0), 0.0)
        self.velocity = _exact_zero(slower)
        self.acceleration = np.zeros(self.limits.size)

    def step(self, wish: ArrayLike, position: np.ndarray) -> np.ndarray:
        """Advance one control period towards `wish`.

        The whole vector is scaled, so the arm keeps the direction it was asked for wherever the limits leave a choice.

        Args:
            wish: (n,) finite, rad/s.
            position: (n,) finite, rad, where the joints are now.

        Returns:
            (n,) rad/s to send for this period.
        """
        wish = np.asarray(wish, dtype=np.float64)
        target = self._admissible(wish, position)
        brake = braking(self.velocity, self.acceleration, self.limits)
        candidates = brake + _BLENDS * (self._towards(target) - brake)
        velocities = self.velocity + candidates * self.limits.period_s
        good = certified(position, velocities, candidates, self.limits)
        # The last candidate is pure braking; it is taken even if a measured position jumped and none is certified.
        chosen = int(np.argmax(good)) if good.any() else len(candidates) - 1
        self.acceleration = candidates[chosen]
        self.velocity = _exact_zero(velocities[chosen])
        self.limited = bool(np.abs(self.velocity - wish).max() > _ROUNDING)
        return self.velocity.copy()

    def _admissible(self, wish: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Scale the whole wish to the velocity limits and to the speed that can still stop before a position limit."""
        limits = self.limits
        used = limits.margin_rad + np.abs(self.velocity) * limits.reaction_s
        room = np.where(wish >= 0, limits.position_max - position, position - limits.position_min) - used
        power = _APPROACH * limits.acceleration_max * limits.period_s
        down, up = limits.speeds(position)
        stoppable = ramp_peak(np.maximum(room, 0), power, limits.period_s)
        fastest = np.minimum(stoppable, np.where(wish >= 0, up, down))
        wish = wish * _common_factor(fastest, np.abs(wish))
        if limits.workspace is None or not wish.any():
            return wish
        stop_s = float((np.abs(wish) / limits.acceleration_max).max())
        return wish * limits.workspace.factor(position, wish, stop_s, limits.reaction_s + limits.period_s)

    def _towards(self, target: np.ndarray) -> np.ndarray:
        """Acceleration towards `target`, straight in velocity space, inside acceleration and jerk limits."""
        limits, change = self.limits, self.limits.jerk_max * self.limits.period_s
        error = target - self.velocity
        largest = np.minimum(ramp_peak(np.abs(error), change, limits.period_s), limits.acceleration_max)
        wanted = error / limits.period_s
        wanted = wanted * _common_factor(largest, np.abs(wanted))
        low = np.maximum(self.acceleration - change, -limits.acceleration_max)
        high = np.minimum(self.acceleration + change, limits.acceleration_max)
        # Jerk may forbid the straight line; then each joint comes as near to it as it can.
        if (low <= 0).all() and (high >= 0).all():
            reach = np.where(wanted >= 0, high, -low)
            return wanted * _common_factor(reach, np.abs(wanted))
        return np.clip(wanted, low, high)


def _common_factor(allowed: np.ndarray, asked: np.ndarray) -> float:
    """Largest factor <= 1 that brings every element of `asked` (>= 0) to at most `allowed` (>= 0)."""
    over = asked > allowed
    return float((allowed[over] / asked[over]).min()) if over.any() else 1.0


def _exact_zero(velocity: np.ndarray) -> np.ndarray:
    """Replace rounding noise by zero, so that rest means zeros on the wire."""
    return np.where(np.abs(velocity) < _ROUNDING, 0.0, velocity)
