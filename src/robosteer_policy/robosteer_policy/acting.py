"""When to act and when to stop: the policy node's state machine, without ROS."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import numpy as np

from robosteer_policy.agent import why_stale
from robosteer_policy.chunks import Action, Strategy
from robosteer_policy.lateness import Lateness
from robosteer_policy.requests import Outcome, Request, Steering
from robosteer_rig.errors import RobosteerError
from robosteer_rig.frame import Frame
from robosteer_rig.rig import Rig

STILL_RAD_PER_S = 0.05
# One period without fresh inputs is silence only; that many in a row end the run.
MAX_BLIND_STEPS = 2
ACTING = "acting"


class State(StrEnum):
    """What the node is doing."""

    LOADING = "loading"
    READY = "ready"
    RUNNING = "running"
    STOPPED = "stopped"


class FrameSource(Protocol):
    """Where frames come from: `robosteer_rig.align.Aligner`."""

    def frame_at(self, t_ns: int) -> Frame | None:
        """The frame for a time; None while a stream is missing."""
        ...

    def stale_at(self, t_ns: int) -> tuple[str, ...]:
        """Names of streams that are too old at a time, or have not come at all."""
        ...


@dataclasses.dataclass(frozen=True)
class Result:
    """The end of one inference.

    Attributes:
        request: what was asked; results of an ended run are void.
        outcome: the actions, or None after an error.
        trouble: what went wrong, one line.
    """

    request: Request
    outcome: Outcome | None
    trouble: str = ""


class Inference(Protocol):
    """A thread (or a server) that infers; none of these calls waits."""

    @property
    def ready(self) -> bool:
        """Whether the model is loaded and warm."""
        ...

    @property
    def busy(self) -> bool:
        """Whether an inference is under way."""
        ...

    @property
    def latency_ns(self) -> int:
        """Expected duration of an inference."""
        ...

    @property
    def slow_ns(self) -> int:
        """Duration of an inference that is slow, and nothing is wrong yet."""
        ...

    def ask(self, request: Request) -> None:
        """Start an inference."""
        ...

    def take(self) -> Result | None:
        """The result of the last one, once."""
        ...


@dataclasses.dataclass(frozen=True)
class Step:
    """What one control period brought.

    Attributes:
        action: to send now, or None: silence, and the guard brings the arm to rest.
        finished: an inference that ended well, to be shown and recorded.
        accepted: whether its chunk will be executed.
    """

    action: Action | None = None
    finished: Result | None = None
    accepted: bool = False


class Acting:
    """Runs a strategy on fresh frames, and stops for a stated reason.

    Attributes:
        state: see `State`.
        reason: why, for people.
        instruction: given to the next inference.
        steering: asked at each inference what is steered, and how strongly.
        overlays: asked at each inference which overlays somebody wants to see.
        may_move: asked before and during a run whether anybody would obey; returns why not.
        ended: called once at the end of every run, however it comes.
        chunks: accepted since the start.
        lateness: what is done when the next chunk does not come, or too late; None takes its defaults.
    """

    def __init__(
        self,
        rig: Rig,
        frames: FrameSource,
        inference: Inference,
        make_strategy: Callable[[], Strategy],
        instruction: str,
        *,
        steering: Callable[[], Steering] = Steering,
        may_move: Callable[[], str] = lambda: "",
        overlays: Callable[[], frozenset[str]] = frozenset,
        ended: Callable[[], None] = lambda: None,
        lateness: Lateness | None = None,
    ) -> None:
        self._rig = rig
        self._frames = frames
        self._inference = inference
        self._make_strategy = make_strategy
        self._strategy = make_strategy()
        self._run = 0
        self._blind_steps = 0
        self._farewell = False
        self._sequence = 0
        self._pending: Result | None = None
        self.lateness = lateness or Lateness(round(1e9 / rig.action.rate_hz))
        self.instruction = instruction
        self.steering, self.may_move, self.overlays, self.ended = steering, may_move, overlays, ended
        self.state = State.LOADING
        self.reason = "loading the checkpoint"
        self.chunks = 0

    def enable(self, now_ns: int) -> str:
        """Begin to act, from rest and with fresh inputs.

        Returns:
            Why not, or an empty string.
        """
        self._notice_readiness()
        if self.state is State.RUNNING:
            return ""
        if self.state is State.LOADING:
            return "enable: the checkpoint is still being loaded; try again when the state is ready"
        if trouble := self.may_move():
            return f"enable: {trouble}"
        frame, trouble = self._fresh_frame(now_ns)
        if trouble or frame is None:
            return f"enable: {trouble}"
        fastest = float(np.abs(frame.joint_velocity).max())
        if fastest > STILL_RAD_PER_S:
            return f"enable: the arm moves at {fastest:.2f} rad/s, expected less than {STILL_RAD_PER_S}"
        self._run += 1
        self._blind_steps = 0
        self.lateness.begin()
        self._strategy = self._make_strategy()
        self.state, self.reason = State.RUNNING, ACTING
        return ""

    def disable(self) -> None:
        """Stop acting as an ordinary end."""
        self._end(State.READY, "disabled on request")

    def stop(self, reason: str) -> None:
        """Stop acting for a reason; it takes another `enable` to go on."""
        self._end(State.STOPPED, reason)

    def last_word(self) -> Action | None:
        """The command of rest that ends a run, once after each: an announced end is no fault to the guard."""
        if not self._farewell:
            return None
        self._farewell = False
        return self._rest()

    def step(self, now_ns: int) -> Step:
        """One control period: look, take what was inferred, ask for more, act."""
        self._notice_readiness()
        result, self._pending = self._pending or self._inference.take(), None
        if self.state is not State.RUNNING:
            return Step(self.last_word())
        mine = result is not None and result.request.run == self._run
        trouble = self.may_move() or (result.trouble if mine and result else "")
        if trouble:
            self.stop(trouble)
            return Step(self.last_word())
        accepted = mine and self._accept(result, now_ns)
        finished = result if mine else None
        frame, trouble = self._fresh_frame(now_ns)
        if trouble or frame is None:
            self._blind_steps += 1
            if self._blind_steps >= MAX_BLIND_STEPS:
                self.stop(trouble)
                return Step(self.last_word(), finished, accepted)
            return Step(self._rest(), finished, accepted)
        self._blind_steps = 0
        if not self._inference.busy and self._strategy.due(now_ns, self._inference.latency_ns):
            self._ask(frame, now_ns)
        if trouble := self.lateness.stalled(now_ns):
            self.stop(trouble)
            return Step(self.last_word(), finished, accepted)
        late = self.lateness.late(now_ns)
        return Step(self._rest() if late else self._strategy.action(now_ns), finished, accepted)

    def watch(self, now_ns: int) -> Action | None:
        """Between two steps: rest at once when something is wrong that need not wait; None when all is well."""
        if self.state is not State.RUNNING:
            return None
        self._pending = self._pending or self._inference.take()
        failed = self._pending is not None and self._pending.request.run == self._run and self._pending.trouble
        waiting = self._pending is None
        if trouble := self.may_move() or failed or (waiting and self.lateness.stalled(now_ns)):
            self.stop(trouble)
            return self.last_word()
        late = waiting and self.lateness.late(now_ns)
        return self._rest() if late or self._frames.stale_at(now_ns) else None

    def _ask(self, frame: Frame, now_ns: int) -> None:
        self.lateness.asked(now_ns, self._inference.slow_ns)
        self._sequence += 1
        continuation = self._strategy.continues(now_ns, self._inference.latency_ns)
        steering, overlays = self.steering(), self.overlays()
        self._inference.ask(
            Request(self._run, self._sequence, frame, self.instruction, steering, continuation, overlays)
        )

    def _rest(self) -> Action:
        return Action(np.zeros(len(self._rig.arm.joints)), None, 0, -1)

    def _notice_readiness(self) -> None:
        if self.state is State.LOADING and self._inference.ready:
            self.state, self.reason = State.READY, "ready"

    def _fresh_frame(self, now_ns: int) -> tuple[Frame | None, str]:
        try:
            frame = self._frames.frame_at(now_ns)
        except RobosteerError as error:
            return None, str(error)
        return frame, why_stale(frame, self._rig)

    def _accept(self, result: Result | None, now_ns: int) -> bool:
        if result is None or result.outcome is None:
            return False
        chunk = result.outcome.chunk
        if old := self.lateness.too_old(chunk.stamp_ns, now_ns):
            self.reason = old
            return False
        if not self._strategy.offer(chunk, now_ns):
            return False
        self.chunks += 1
        self.lateness.accepted()
        self.reason = ACTING
        return True

    def _end(self, state: State, reason: str) -> None:
        was_running = self.state is State.RUNNING
        if self.state is not State.LOADING:
            self.state, self.reason = state, reason
        if was_running:
            self._farewell = True
            self._run += 1
            self.ended()
