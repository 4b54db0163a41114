"""Strategies that use more than one chunk: temporal ensembling and real-time chunking."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from robosteer_policy.chunks import Action, Asynchronous, Chunk, index_at


@dataclasses.dataclass(frozen=True)
class Continuation:
    """How a new chunk relates to the one that is being executed while it is computed.

    Attributes:
        sequence: number of the old chunk's inference.
        shift: steps from the old observation to the new one: old row k + shift is for the same time as new row k.
        delay: steps that will have been executed from the old chunk before the new one arrives.
    """

    sequence: int
    shift: int
    delay: int


def continuation(chunk: Chunk, now_ns: int, latency_ns: int) -> Continuation | None:
    """The continuation of `chunk` by an inference that begins now; None when nothing of it will be left.

    Args:
        chunk: being executed.
        now_ns: time of the new observation.
        latency_ns: expected duration of the inference.
    """
    shift = round((now_ns - chunk.stamp_ns) / chunk.period_ns)
    # One period more: results are looked for once per period.
    delay = math.ceil(latency_ns / chunk.period_ns) + 1
    if not 0 <= shift < chunk.horizon:
        return None
    return Continuation(chunk.sequence, shift, min(delay, chunk.horizon - shift))


def guide_weights(horizon: int, shift: int, delay: int) -> np.ndarray:
    """How firmly each action of the new chunk is held to the old one, (H,) float32.

    1 for the steps that the old chunk will have executed, then falling, then 0 where the old chunk has no action:
    c (e^c - 1) / (e - 1) with c from 1 to 0 (2506.07339, equation 5).

    Args:
        horizon: H.
        shift: as in `Continuation`; the overlap has H - shift steps.
        delay: as in `Continuation`.
    """
    overlap = horizon - shift
    k = np.arange(horizon)
    c = np.clip((overlap - k) / (overlap - delay + 1), 0.0, 1.0)
    soft = c * np.expm1(c) / np.expm1(1.0)
    return np.where(k < min(delay, overlap), 1.0, np.where(k < overlap, soft, 0.0)).astype(np.float32)


def moved(previous: np.ndarray, shift: int) -> np.ndarray:
    """The old chunk (H, A) so that row k is for the new row k's time; rows that it lacks repeat its last."""
    rows = np.minimum(np.arange(len(previous)) + shift, len(previous) - 1)
    return previous[rows]


def ensemble(chunks: list[Chunk], now_ns: int, decay: float) -> Action | None:
    """Weighted mean of what all chunks say about now, the oldest first: weights exp(-decay * i), ACT's rule.

    Args:
        chunks: oldest first.
        now_ns: the time.
        decay: 1 per chunk; 0 weighs all the same.
    """
    found = [(c, index_at(c.stamp_ns, c.period_ns, c.horizon, now_ns)) for c in chunks]
    valid = [(c, k) for c, k in found if k is not None]
    if not valid:
        return None
    weights = np.exp(-decay * np.arange(len(valid)))
    weights /= weights.sum()
    velocity = sum(w * c.velocity[k] for w, (c, k) in zip(weights, valid, strict=True))
    gripper = float(sum(w * c.gripper[k] for w, (c, k) in zip(weights, valid, strict=True)))
    newest, index = valid[-1]
    return Action(np.asarray(velocity), gripper, newest.stamp_ns, index)


class Ensembling:
    """Infer at every step and execute the mean of all chunks that speak about it (ACT)."""

    def __init__(self, execute_steps: int, *, decay: float = 0.1) -> None:
        self._steps, self._decay = execute_steps, decay
        self._chunks: list[Chunk] = []

    def offer(self, chunk: Chunk, now_ns: int) -> bool:
        """See `Strategy`."""
        if self._chunks and chunk.stamp_ns <= self._chunks[-1].stamp_ns:
            return False
        if index_at(chunk.stamp_ns, chunk.period_ns, chunk.horizon, now_ns) is None:
            return False
        alive = [c for c in self._chunks if index_at(c.stamp_ns, c.period_ns, c.horizon, now_ns) is not None]
        self._chunks = [*alive, chunk]
        return True

    def action(self, now_ns: int) -> Action | None:
        """See `Strategy`."""
        return ensemble(self._chunks, now_ns, self._decay)

    def due(self, now_ns: int, latency_ns: int) -> bool:
        """See `Strategy`: always; the more chunks, the better the mean."""
        return True

    def continues(self, now_ns: int, latency_ns: int) -> Continuation | None:
        """See `Strategy`."""
        return None


class RealTime(Asynchronous):
    """Overlap, with every chunk computed as the continuation of the one before (real-time chunking)."""

    def continues(self, now_ns: int, latency_ns: int) -> Continuation | None:
        """See `Strategy`."""
        return None if self._chunk is None else continuation(self._chunk, now_ns, latency_ns)
