"""The control core: frames of the hand in, a bounded target out. Everything that happens is a call with its time.

Nothing here reads a clock, so a log of the calls replays bit for bit (`robosteer_teleop.pose_log`). Every loss (pose,
visibility, link, freeze, re-centring, jump, the robot's state) opens the clutch, and it stays open until the grip was
let go and squeezed again. An open clutch holds the target where it is; it never returns to the measured pose by itself.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.control.clutch import Clutch, ClutchEvent
from robosteer_teleop.control.frames import Alignment, Pose, align
from robosteer_teleop.control.gates import STALE_S, HandSample, InputGate, Verdict
from robosteer_teleop.control.gripper import Binary, streamed
from robosteer_teleop.control.limiter import Motion, PoseLimiter
from robosteer_teleop.control.one_euro import OneEuro, PoseFilter
from robosteer_teleop.control.presets import LIMITS, SCALINGS, Bounds, MotionLimits, Scaling
from robosteer_teleop.control.rotations import angle_between, exp, length, log

TICK_S = 0.005
RELATCH_M, RELATCH_RAD = 0.030, 0.2
"""A target farther than this from the measured pose was left there by a hand on the arm or a reflex."""


@dataclasses.dataclass(frozen=True)
class CoreConfig:
    """Everything that the core's answers depend on besides its calls.

    Attributes:
        limits: of the target's motion.
        bounds: box and leash.
        scaling: of the hand's motion, at the start.
        smoothing: of the hand's pose.
        yaw: of the operator, rad; None demands an alignment before the first move.
        follow_measured: an open clutch lets the target follow the arm: for outputs that do not hold a pose.
        binary_gripper: the gripper knows open and closed only.
    """

    limits: MotionLimits = LIMITS["teach"]
    bounds: Bounds = dataclasses.field(default_factory=Bounds)
    scaling: Scaling = SCALINGS["full"]
    smoothing: OneEuro = dataclasses.field(default_factory=OneEuro)
    yaw: float | None = None
    follow_measured: bool = False
    binary_gripper: bool = False


@dataclasses.dataclass(frozen=True)
class Flags:
    """What holds the target back; shown, felt and recorded.

    Attributes:
        box: edge of the workspace.
        leash: the arm does not follow.
        speed: the hand is faster than the limit.
        jump: poses are rejected, or held as dead-reckoned.
        joint: the arm is near a joint limit or a singularity.
    """

    box: bool = False
    leash: bool = False
    speed: bool = False
    jump: bool = False
    joint: bool = False

    def names(self) -> list[str]:
        """The active ones."""
        return [field.name for field in dataclasses.fields(self) if getattr(self, field.name)]


@dataclasses.dataclass(frozen=True)
class Target:
    """One tick's output.

    Attributes:
        motion: the target's pose and velocity in the base frame; None before the arm's pose was known.
        engaged: the hand moves it.
        flags: what holds it back.
        gripper: command, 0 open ... 1 closed; None before the first engagement.
    """

    motion: Motion | None
    engaged: bool
    flags: Flags
    gripper: float | None


class TeleopCore:
    """One operator's hand on one arm. Single-threaded.

    Attributes:
        config: what it was told.
        alignment: where the operator stands; None until measured.
        scaling: of the hand's motion.
        enabled: the arming switch.
        gate: judges the frames; has the reject counts.
        fault_reason: of the last fault, "" once engaged again.
        openings: how often the clutch was opened after having been engaged.
    """

    def __init__(self, config: CoreConfig) -> None:
        """Start disabled and open."""
        self.config = config
        self.alignment = Alignment(config.yaw) if config.yaw is not None else None
        self.scaling = config.scaling
        self.enabled = False
        self.gate = InputGate()
        self.fault_reason = ""
        self.openings = 0
        self._clutch = Clutch()
        self._filter = PoseFilter(config.smoothing)
        self._limiter = PoseLimiter(config.bounds)
        self._measured: Pose | None = None
        self._hand_zero: Pose | None = None
        self._target_zero: Pose | None = None
        self._goal: Pose | None = None
        self._frame_s = -math.inf
        self._sample_time_s = -math.inf
        self._jump = False
        self._binary = Binary()
        self._gripper: float | None = None

    @property
    def engaged(self) -> bool:
        """Whether the hand moves the target."""
        return self._clutch.engaged

    @property
    def waiting_for_release(self) -> bool:
        """Whether the grip must be let go before it counts again."""
        return self._clutch.waiting_for_release

    def why_not(self) -> str:
        """Why a squeeze would not engage now; "" when it would."""
        if not self.enabled:
            return "disabled"
        if self.alignment is None:
            return "not aligned"
        return "" if self._measured is not None else "robot state"

    # What happens -------------------------------------------------------------------------------------------------

    def enable(self, on: bool) -> None:
        """The arming switch; off opens the clutch, on takes the target to where the arm is."""
        self.enabled = on
        if not on:
            self.fault("disabled")
        elif not self.engaged:
            self._limiter.motion = None  # somebody else may have moved the arm meanwhile

    def connect(self) -> None:
        """A new connection of the operator: nothing is known of the hand."""
        self.fault("link")
        self.gate.restart()

    def fault(self, reason: str) -> None:
        """Open the clutch, whatever the hand does, and demand a fresh press.

        Args:
            reason: one word for HUD and bag.
        """
        self.gate.forget()
        self._jump = False
        if self._clutch.fault():
            self._open()
            self.fault_reason = reason

    def recentred(self) -> None:
        """The headset moved its origin: the measured yaw is void."""
        self.fault("recentred")
        self.alignment = None

    def align(self, quaternion: np.ndarray) -> None:
        """Measure the yaw from where the controller points.

        Raises:
            RobosteerError: while the clutch is engaged, or when it points too far up or down.
        """
        if self.engaged:
            raise RobosteerError("alignment: found the clutch engaged, expected it open; let the grip go first")
        self.alignment = align(quaternion)
        self.gate.forget()

    def set_scaling(self, scaling: Scaling) -> None:
        """Change the scaling.

        Raises:
            RobosteerError: while the clutch is engaged.
        """
        if self.engaged:
            raise RobosteerError("scaling: found the clutch engaged, expected it open; let the grip go first")
        self.scaling = scaling

    def frame(self, sample: HandSample, now_s: float) -> None:
        """Take one frame of the controller.

        Args:
            sample: the frame.
            now_s: when it arrived, this host's monotonic clock, s.
        """
        pose = self._pose_of(sample)
        judgement = self.gate.judge(sample, pose, now_s)
        if judgement.verdict is Verdict.IGNORE:
            return
        self._frame_s = now_s
        if judgement.verdict is Verdict.FAULT:
            self.fault(judgement.reason)
            return
        self._jump = judgement.verdict is Verdict.HOLD
        allowed = judgement.verdict is Verdict.ACCEPT and not self.why_not()
        event = self._clutch.update(sample.squeeze, allowed=allowed)
        if event is ClutchEvent.RELEASED:
            self._open()
        if judgement.verdict is not Verdict.ACCEPT or pose is None:
            return
        if event is ClutchEvent.ENGAGED:
            self._engage(pose)
        elif self.engaged:
            self._move(self._filter.update(pose, sample.time_s - self._sample_time_s))
        self._sample_time_s = sample.time_s
        if self.engaged:
            self._grip(sample.trigger, now_s)

    def tick(self, now_s: float, measured: Pose | None, *, slow: float = 1.0) -> Target:
        """Advance the target; call every `TICK_S`.

        Args:
            now_s: this host's monotonic clock, s.
            measured: the arm's pose in the base frame; None while it is not known.
            slow: factor on the speed limits, 0 ... 1, from the joint monitor.
        """
        self._measured = measured
        if measured is None:
            self.fault("robot state")
        elif now_s - self._frame_s > STALE_S:
            self.fault("stale")
        if measured is not None and (
            self._limiter.motion is None or (self.config.follow_measured and not self.engaged)
        ):
            self._limiter.rest_at(measured)
        if not self.engaged or self._goal is None or measured is None:
            return Target(self._limiter.motion, False, Flags(jump=self._jump, joint=slow < 1.0), self._gripper)
        limited = self._limiter.step(self._goal, measured, self.config.limits.slowed(slow), TICK_S)
        flags = Flags(limited.box, limited.leash, limited.speed, self._jump, slow < 1.0)
        return Target(limited.motion, True, flags, self._gripper)

    # How ----------------------------------------------------------------------------------------------------------

    def _pose_of(self, sample: HandSample) -> Pose | None:
        """The sample's pose in the robot's axes; None for one that is not finite, or no rotation."""
        norm = length(sample.quaternion)
        if not (np.isfinite(sample.position).all() and math.isfinite(norm) and 0.9 < norm < 1.1):
            return None
        return (self.alignment or Alignment()).to_base(sample.position, sample.quaternion)

    def _engage(self, pose: Pose) -> None:
        """Latch hand and target. A target near the arm is kept, so that an impedance spring keeps its load."""
        if self._measured is None or self._limiter.motion is None:
            raise RuntimeError("engaged without a measured pose")
        target, measured = self._limiter.motion.pose, self._measured
        near = length(target.position - measured.position) <= RELATCH_M
        near = near and angle_between(target.rotation, measured.rotation) <= RELATCH_RAD
        self._filter.reset()
        self._hand_zero = self._filter.update(pose, 0.0)
        self._target_zero = target if near else measured
        self._goal = self._target_zero
        self.fault_reason = ""

    def _move(self, hand: Pose) -> None:
        if self._hand_zero is None or self._target_zero is None:
            raise RuntimeError("moved without a latch")
        shift = self.scaling.translation * (hand.position - self._hand_zero.position)
        turn = self.scaling.rotation * log(hand.rotation @ self._hand_zero.rotation.T)
        self._goal = Pose(self._target_zero.position + shift, exp(turn) @ self._target_zero.rotation)

    def _open(self) -> None:
        self.openings += 1
        self._limiter.stop()
        self._goal = None

    def _grip(self, trigger: float, now_s: float) -> None:
        closed = self._binary.update(trigger, now_s) if self.config.binary_gripper else streamed(trigger)
        self._gripper = closed
