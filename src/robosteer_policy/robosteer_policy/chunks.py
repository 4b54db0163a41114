"""Which action of which chunk applies now: execution strategies as small state machines without clocks or threads.

A chunk's action k belongs to the interval [t + k T, t + (k + 1) T) after the observation's stamp t: this is how the
actions of the training data were derived (means over these intervals).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from robosteer_policy.strategies import Continuation


@dataclasses.dataclass(frozen=True)
class Chunk:
    """One inference's actions.

    Attributes:
        stamp_ns: of the observation.
        velocity: (H, 7) rad/s.
        gripper: (H,) 0 open ... 1 closed.
        period_ns: T, duration of one action.
        sequence: number of the inference that made it.
    """

    stamp_ns: int
    velocity: np.ndarray
    gripper: np.ndarray
    period_ns: int
    sequence: int = 0

    @property
    def horizon(self) -> int:
        """H, number of actions."""
        return len(self.velocity)


@dataclasses.dataclass(frozen=True)
class Action:
    """What to do now.

    Attributes:
        velocity: (7,) rad/s.
        gripper: 0 open ... 1 closed; None leaves it as it is.
        chunk_stamp_ns: observation that it came from.
        index: k within its chunk; -1 for a planned pause.
    """

    velocity: np.ndarray
    gripper: float | None
    chunk_stamp_ns: int
    index: int


class Strategy(Protocol):
    """One way of executing chunks. All times are ns of the clock that stamps observations."""

    def offer(self, chunk: Chunk, now_ns: int) -> bool:
        """Take a finished chunk; False when it is no use any more (older than the present one, or run out)."""
        ...

    def action(self, now_ns: int) -> Action | None:
        """The action for now, None when there is none."""
        ...

    def due(self, now_ns: int, latency_ns: int) -> bool:
        """Whether to start an inference now if none is under way.

        Args:
            now_ns: present time.
            latency_ns: expected duration of an inference.
        """
        ...

    def continues(self, now_ns: int, latency_ns: int) -> Continuation | None:
        """What an inference that begins now continues; None for nothing. Arguments as in `due`."""
        ...


def index_at(start_ns: int, period_ns: int, horizon: int, now_ns: int) -> int | None:
    """Index of the interval of `period_ns` that holds `now_ns`, counted from `start_ns`; None outside 0 ... H-1."""
    k = (now_ns - start_ns) // period_ns
    return int(k) if 0 <= k < horizon else None


def _take(chunk: Chunk, index: int) -> Action:
    return Action(chunk.velocity[index], float(chunk.gripper[index]), chunk.stamp_ns, index)


class Synchronous:
    """Execute n of H actions, then stand still while the next chunk is computed (DROID's evaluation).

    A chunk begins when it arrives, so inference time does not eat actions; the price is a pause between chunks, in
    which rest is commanded.
    """

    def __init__(self, execute_steps: int) -> None:
        self._steps = execute_steps
        self._chunk: Chunk | None = None
        self._start_ns = 0

    def offer(self, chunk: Chunk, now_ns: int) -> bool:
        """See `Strategy`. A chunk that arrives while another is being executed is refused."""
        if self._chunk and (chunk.stamp_ns <= self._chunk.stamp_ns or now_ns < self._end_ns(self._chunk)):
            return False
        self._chunk, self._start_ns = chunk, now_ns
        return True

    def action(self, now_ns: int) -> Action | None:
        """See `Strategy`."""
        chunk = self._chunk
        if chunk is None:
            return None
        index = index_at(self._start_ns, chunk.period_ns, min(self._steps, chunk.horizon), now_ns)
        if index is not None:
            return _take(chunk, index)
        return Action(np.zeros(chunk.velocity.shape[1]), None, chunk.stamp_ns, -1)

    def due(self, now_ns: int, latency_ns: int) -> bool:
        """See `Strategy`: only when the present chunk is done, from an observation of the resting arm."""
        return self._chunk is None or now_ns >= self._end_ns(self._chunk)

    def continues(self, now_ns: int, latency_ns: int) -> Continuation | None:
        """See `Strategy`: each chunk begins from rest."""
        return None

    def _end_ns(self, chunk: Chunk) -> int:
        return self._start_ns + min(self._steps, chunk.horizon) * chunk.period_ns


class Asynchronous:
    """Compute the next chunk while the present one is executed; actions keep the times they were predicted for.

    The chunk with the newest observation rules. The next inference starts early enough to arrive when
    `execute_steps` actions of the present chunk have been used; with 1 it starts again at once.
    """

    def __init__(self, execute_steps: int) -> None:
        self._steps = execute_steps
        self._chunk: Chunk | None = None

    def offer(self, chunk: Chunk, now_ns: int) -> bool:
        """See `Strategy`."""
        reordered = self._chunk is not None and chunk.stamp_ns <= self._chunk.stamp_ns
        run_out = index_at(chunk.stamp_ns, chunk.period_ns, chunk.horizon, now_ns) is None
        if reordered or run_out:
            return False
        self._chunk = chunk
        return True

    def action(self, now_ns: int) -> Action | None:
        """See `Strategy`."""
        if self._chunk is None:
            return None
        index = index_at(self._chunk.stamp_ns, self._chunk.period_ns, self._chunk.horizon, now_ns)
        return None if index is None else _take(self._chunk, index)

    def due(self, now_ns: int, latency_ns: int) -> bool:
        """See `Strategy`."""
        if self._chunk is None:
            return True
        steps = min(self._steps, self._chunk.horizon)
        # One period more: results are looked for once per period.
        return now_ns + latency_ns + self._chunk.period_ns >= self._chunk.stamp_ns + steps * self._chunk.period_ns

    def continues(self, now_ns: int, latency_ns: int) -> Continuation | None:
        """See `Strategy`."""
        return None
