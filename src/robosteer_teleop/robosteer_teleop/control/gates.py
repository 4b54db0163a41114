"""Which samples of the hand are believed. In order: sequence and time, visible, pose, emulated, jump."""

from __future__ import annotations

import dataclasses
from enum import StrEnum

import numpy as np

from robosteer_teleop.control.frames import Pose
from robosteer_teleop.control.rotations import angle_between, length

HAND_SPEED = 3.0  # m/s
HAND_TURN_SPEED = 15.0  # rad/s
JUMP_SLACK_M = 0.010
JUMP_SLACK_RAD = 0.0873  # 5 deg
MAX_JUMP_DT_S = 0.030  # without this cap, waiting makes the same jump plausible
REJECT_PATIENCE_S = 0.100
EMULATED_PATIENCE_S = 0.200
STALE_S = 0.100


@dataclasses.dataclass(frozen=True)
class HandSample:
    """One frame of the controller, as the page sent it.

    Attributes:
        sequence: of the frame; increases.
        time_s: the headset's clock, s; increases.
        visible: the page is in front (WebXR visibilityState "visible").
        tracked: the pose exists.
        emulated: the position is dead-reckoned by the headset.
        position: (3,) m, WebXR local-floor.
        quaternion: (4,) x, y, z, w.
        squeeze: 0 ... 1.
        trigger: 0 ... 1.
    """

    sequence: int
    time_s: float
    visible: bool
    tracked: bool
    emulated: bool
    position: np.ndarray
    quaternion: np.ndarray
    squeeze: float
    trigger: float


class Verdict(StrEnum):
    """What becomes of a sample."""

    ACCEPT = "accept"
    IGNORE = "ignore"  # late or repeated: as if it had not come
    HOLD = "hold"  # the goal stands still
    FAULT = "fault"  # the clutch opens


@dataclasses.dataclass(frozen=True)
class Judgement:
    """The verdict and why.

    Attributes:
        verdict: what becomes of the sample.
        reason: "" for an accepted one, else one word for HUD and bag.
    """

    verdict: Verdict
    reason: str = ""


@dataclasses.dataclass
class Rejects:
    """How often each gate spoke, for the episode's quality figures."""

    ignored: int = 0
    jumps: int = 0
    emulated: int = 0
    faults: int = 0


class InputGate:
    """Judges samples one by one.

    Attributes:
        counts: what was rejected so far.
    """

    def __init__(self) -> None:
        """Start with nothing believed."""
        self.counts = Rejects()
        self._sequence = -1
        self._time_s = -np.inf
        self._last: tuple[float, Pose] | None = None
        self._rejecting_since: float | None = None
        self._emulated_since: float | None = None
        self._seen_real = False

    def restart(self) -> None:
        """A new connection: sequence numbers start again, and nothing is known of the hand."""
        self._sequence, self._time_s = -1, -np.inf
        self.forget()

    def forget(self) -> None:
        """After a fault: the next pose is where the hand is, however far from the last."""
        self._last = self._rejecting_since = self._emulated_since = None

    def judge(self, sample: HandSample, pose: Pose | None, now_s: float) -> Judgement:
        """Judge one sample.

        Args:
            sample: the frame.
            pose: its pose in the robot's axes; None when it has none that is finite.
            now_s: when it arrived, this host's monotonic clock.
        """
        if sample.sequence <= self._sequence or sample.time_s <= self._time_s:
            self.counts.ignored += 1
            return Judgement(Verdict.IGNORE, "late")
        self._sequence, self._time_s = sample.sequence, sample.time_s
        if not sample.visible:
            return self._fault("hidden")
        if not sample.tracked or pose is None:
            return self._fault("tracking")
        judgement = self._emulated(sample, now_s)
        if judgement is None:
            judgement = self._jump(sample.time_s, pose, now_s)
        return judgement

    def _fault(self, reason: str) -> Judgement:
        self.counts.faults += 1
        self.forget()
        return Judgement(Verdict.FAULT, reason)

    def _emulated(self, sample: HandSample, now_s: float) -> Judgement | None:
        """Dead-reckoned positions count only once a real one was seen: some runtimes call every pose emulated."""
        if not sample.emulated:
            self._seen_real, self._emulated_since = True, None
            return None
        if not self._seen_real:
            return None
        if self._emulated_since is None:
            self._emulated_since = now_s
        if now_s - self._emulated_since > EMULATED_PATIENCE_S:
            return self._fault("emulated")
        self.counts.emulated += 1
        return Judgement(Verdict.HOLD, "emulated")

    def _jump(self, time_s: float, pose: Pose, now_s: float) -> Judgement:
        if self._last is not None:
            last_s, last = self._last
            dt = min(time_s - last_s, MAX_JUMP_DT_S)
            far = length(pose.position - last.position) > HAND_SPEED * dt + JUMP_SLACK_M
            if far or angle_between(pose.rotation, last.rotation) > HAND_TURN_SPEED * dt + JUMP_SLACK_RAD:
                self.counts.jumps += 1
                if self._rejecting_since is None:
                    self._rejecting_since = now_s
                if now_s - self._rejecting_since > REJECT_PATIENCE_S:
                    return self._fault("jump")
                return Judgement(Verdict.HOLD, "jump")
        self._last, self._rejecting_since = (time_s, pose), None
        return Judgement(Verdict.ACCEPT)
