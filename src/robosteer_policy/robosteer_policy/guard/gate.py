"""The guard's state machine: one arbiter between every source of motion and the arm.

disarmed --arm--> armed --fault--> fault (latched) --arm--> armed. Only `armed` obeys commands, and only those of the
selected source. In every other state, and whenever the stream of commands falls silent, the arm slews to rest.

Silence means different things for the sources. A policy (or a homing motion) that falls silent while moving has failed:
that is latched, and a person decides when to go on. An operator falls silent by releasing the clutch, many times per
episode: the arm comes to rest and the next command resumes, because resuming is the operator's own act. A policy that
pauses on purpose says so with a command of zeros.

What goes wrong with the inputs' timing while nothing moves and nobody commands is counted but not latched: it could not
have harmed, and commands are dropped until the inputs are good again.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from robosteer_policy.guard.gripper import GripperGate
from robosteer_policy.guard.interlocks import Interlock
from robosteer_policy.guard.limits import Limiter, Limits
from robosteer_policy.guard.settings import GuardSettings
from robosteer_policy.guard.streams import Command, Instant, StampCheck, by_name, speed_between


class State(StrEnum):
    """Whether commands are obeyed."""

    DISARMED = "disarmed"
    ARMED = "armed"
    FAULT = "fault"


class Source(StrEnum):
    """Who may move the arm."""

    TELEOP = "teleop"
    POLICY = "policy"
    HOMING = "homing"


@dataclasses.dataclass(frozen=True)
class _Stream:
    """An uninterrupted sequence of accepted commands: the newest one, and when and by whom it was begun."""

    velocity: np.ndarray
    started_ns: int
    publisher: bytes | None


class Gate:
    """Decides, every control period, what the arm is told.

    Attributes:
        state: see the module.
        source: the selected source; commands of others are counted and dropped.
        reason: why the state is what it is, for people.
        counters: accepted and rejected messages by kind.
        limiter: what is being sent.
        gripper: what the gripper is told.
        interlocks: further conditions for motion, by name.
    """

    def __init__(
        self,
        joints: Sequence[str],
        limits: Limits,
        settings: GuardSettings,
        source: Source,
        interlocks: Sequence[Interlock] = (),
    ) -> None:
        self._joints = tuple(joints)
        self._settings = settings
        self.limiter = Limiter(limits)
        self.gripper = GripperGate()
        self.interlocks = {interlock.name: interlock for interlock in interlocks}
        self.state = State.DISARMED
        self.source = source
        self.reason = "not armed yet"
        self.counters: Counter[str] = Counter()
        self._next_source: Source | None = None
        self._stream: _Stream | None = None
        self._stamps = StampCheck(settings.hold_s, settings.future_s)
        self._joint_stamps = StampCheck(settings.joint_state_s, settings.future_s)
        self._position: np.ndarray | None = None
        self._measured_velocity = np.zeros(len(self._joints))
        self._joint_trouble = "none received"
        self._blind = True
        self._last_tick_ns: int | None = None
        self._clock_offset_ns: int | None = None

    @property
    def pending_source(self) -> Source | None:
        """The source that takes over once the arm is at rest, if a hand-over is under way."""
        return self._next_source

    @property
    def position(self) -> np.ndarray | None:
        """(n,) rad, last measured; None before the first."""
        return self._position

    def arm(self, now: Instant) -> str:
        """Clear the latch and obey the selected source, from rest.

        Returns:
            Why not, or an empty string.
        """
        if self.state is State.ARMED:
            return ""
        if self._joint_stamps.age_s(now) > self._settings.joint_state_s:
            return f"joint states: {self._joint_trouble}, expected one in the last {self._settings.joint_state_s} s"
        if trouble := self._interlock_trouble(now):
            return trouble
        if not self.limiter.at_rest:
            return "arm: still slewing to rest, expected rest; try again"
        fastest = float(np.abs(self._measured_velocity).max())
        if fastest > self._settings.still_rad_per_s:
            how = f"moves at {fastest:.2f} rad/s" if np.isfinite(fastest) else "speed not known yet"
            return f"arm: {how}, expected less than {self._settings.still_rad_per_s} rad/s"
        self._forget_stream()
        self.state, self.reason = State.ARMED, f"obeying {self.source}"
        return ""

    def disarm(self, reason: str = "disarmed on request") -> None:
        """Slew to rest and obey nobody."""
        self.state, self.reason = State.DISARMED, reason
        self._forget_stream()

    def fault(self, reason: str) -> None:
        """Latch a fault; the first reason stays."""
        if self.state is not State.ARMED:
            return
        self.state, self.reason = State.FAULT, reason
        self.counters["faults"] += 1
        self._forget_stream()

    def _fault_if_active(self, reason: str) -> None:
        if self._stream or not self.limiter.at_rest:
            self.fault(reason)

    def select(self, source: Source) -> None:
        """Hand over to another source; it is obeyed once the arm has come to rest."""
        self._next_source = None if source is self.source else source
        self._forget_stream()

    def on_joint_state(
        self, stamp_ns: int, names: Sequence[str], position: ArrayLike, velocity: ArrayLike, now: Instant
    ) -> None:
        """Take a measurement: rad and rad/s in the order of `names`; joints of other devices may be among them."""
        ordered = by_name(names, position, self._joints, exact=False)
        before, before_ns = self._position, self._joint_stamps.issued_ns
        if isinstance(ordered, str):
            self._joint_trouble = ordered
        elif trouble := self._joint_stamps.reject(stamp_ns, now):
            self._joint_trouble = trouble
        else:
            self._position, self._joint_trouble = ordered, "none since"
            speeds = by_name(names, velocity, self._joints, exact=False)
            if isinstance(speeds, str):  # a driver that measures none
                speeds = speed_between(before, before_ns, ordered, self._joint_stamps.issued_ns)
            self._measured_velocity = speeds
            return
        self.counters["rejected joint states"] += 1

    def on_command(self, source: Source, command: Command, now: Instant) -> str:
        """Take a command.

        Returns:
            Why it was dropped, or an empty string.
        """
        trouble = self._command_trouble(source, command, now)
        self.counters[f"rejected {source}: {_kind(trouble)}" if trouble else f"accepted {source}"] += 1
        return trouble

    def on_gripper(self, source: Source, value: float, now: Instant) -> str:
        """Take a gripper position; returns why it was dropped, or an empty string."""
        deaf = self._deaf_to(source) or self._interlock_trouble(now)
        trouble = deaf or self.gripper.accept(value)
        if trouble:
            self.counters[f"rejected {source}: {_kind(trouble)}"] += 1
            if not deaf:
                self.fault(f"{source}: {trouble}")
        return trouble

    def tick(self, now: Instant) -> np.ndarray:
        """Advance one control period.

        Returns:
            (n,) rad/s to send now.
        """
        period_s = self.limiter.limits.period_s
        gap_s = period_s if self._last_tick_ns is None else (now.steady_ns - self._last_tick_ns) * 1e-9
        if gap_s < period_s / 2:
            return self.limiter.velocity.copy()  # A timer that catches up must not accelerate the arm twice.
        self._last_tick_ns = now.steady_ns
        if gap_s > self._settings.controller_s:
            self._resume(gap_s, now)
        self._watch_clock(now)
        # What arrived while the guard was not scheduled still waits to be read: timers come first.
        self._watch_silence(now, unread_s=max(gap_s - period_s, 0.0))
        self._hand_over()
        if self._position is None:
            return np.zeros(len(self._joints))
        age_s = min(self._joint_stamps.age_s(now), self._settings.joint_state_s)
        return self.limiter.step(self._wish(now), self._position + self.limiter.velocity * age_s)

    def _resume(self, gap_s: float, now: Instant) -> None:
        """Go on after a time without commands, in which the controller has braked the arm by itself."""
        self.counters["stalls"] += 1
        if gap_s > self._settings.frozen_s:
            self._fault_if_active(f"guard: not scheduled for {gap_s:.2f} s")
        elif self._stream:
            self._stream = dataclasses.replace(self._stream, started_ns=now.steady_ns)
        self.limiter.coast((gap_s - self._settings.controller_s) * self._settings.controller_brake)

    def _deaf_to(self, source: Source) -> str:
        if source is not self.source:
            return "not the selected source"
        if self.state is not State.ARMED:
            return f"guard is in state {self.state}"
        return f"hand-over to {self._next_source}" if self._next_source else ""

    def _command_trouble(self, source: Source, command: Command, now: Instant) -> str:
        if trouble := self._deaf_to(source):
            return trouble
        velocity = by_name(command.names, command.velocity, self._joints, exact=True)
        if command.foreign:
            velocity = "position or effort filled, expected velocity only"
        if isinstance(velocity, str):
            self.fault(f"{source}: {velocity}")
            return velocity
        if self._stream and self._stream.publisher != command.publisher:
            self.fault(f"{source}: a second publisher appeared")
            return "second publisher"
        if self._blind:
            return "joint states are stale"
        if trouble := self._stamps.reject(command.stamp_ns, now):
            return trouble
        started_ns = self._stream.started_ns if self._stream else now.steady_ns
        self._stream = _Stream(velocity, started_ns, command.publisher)
        return ""

    def _watch_clock(self, now: Instant) -> None:
        """Notice a step of the stamping clock: stamps from before and after it cannot be compared."""
        offset_ns = now.clock_ns - now.steady_ns
        jump_s = 0.0 if self._clock_offset_ns is None else (offset_ns - self._clock_offset_ns) * 1e-9
        self._clock_offset_ns = offset_ns
        if abs(jump_s) > self._settings.clock_jump_s:
            self._fault_if_active(f"clock: jumped by {jump_s:+.3f} s")
            self._stamps.reset()
            self._joint_stamps.reset()
            self._joint_trouble = "none since the clock jumped"

    def _watch_silence(self, now: Instant, unread_s: float) -> None:
        """Look for what has not arrived, up to `unread_s` ago."""
        joints_s, limit_s = self._joint_stamps.age_s(now) - unread_s, self._settings.joint_state_s
        self._blind = joints_s > limit_s
        if self._blind:
            age, limit = f"{joints_s * 1e3:.0f} ms", f"{limit_s * 1e3:.0f} ms"
            self._fault_if_active(f"joint states: {self._joint_trouble} for {age}, limit {limit}")
        if trouble := self._interlock_trouble(now, unread_s):
            self._fault_if_active(trouble)
        silence_s = self._stamps.age_s(now) - unread_s
        if self._stream and silence_s > self._settings.silence_s:
            if self.source is not Source.TELEOP and self._stream.velocity.any():
                self.fault(f"{self.source}: no valid command for {silence_s * 1e3:.0f} ms")
            self._forget_stream()

    def _wish(self, now: Instant) -> np.ndarray:
        """What the selected source wants, (n,) rad/s; zeros for whatever must end in rest."""
        stale = self._stamps.age_s(now) > self._settings.hold_s
        if self.state is not State.ARMED or self._next_source or not self._stream or stale:
            return np.zeros(len(self._joints))
        elapsed_s = (now.steady_ns - self._stream.started_ns) * 1e-9 + self.limiter.limits.period_s
        return self._stream.velocity * min(elapsed_s / self._settings.ramp_s, 1.0)

    def _interlock_trouble(self, now: Instant, unread_s: float = 0.0) -> str:
        troubles = (interlock.trouble(now, unread_s) for interlock in self.interlocks.values())
        return next(filter(None, troubles), "")

    def _hand_over(self) -> None:
        if self._next_source and self.limiter.at_rest:
            self.source, self._next_source = self._next_source, None
            self._forget_stream()
            if self.state is State.ARMED:
                self.reason = f"obeying {self.source}"

    def _forget_stream(self) -> None:
        self._stream = None
        self._stamps.reset()


def _kind(trouble: str) -> str:
    """The phrase without its numbers and names, so that no input can make many counters."""
    return " ".join(word for word in trouble.partition("[")[0].split() if not any(c.isdigit() for c in word))
