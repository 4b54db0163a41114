"""Causal ablation: how much the loss rises when noise is put on one head.

The Robotic Steering paper's baseline (arXiv 2511.22697): CMA(l, h) = E_ε[L(z_lh + ε)] - L(z) over the demonstrations;
higher is more important. The law of the noise is not stated there; here ε is normal with the head's own deviation,
times a factor, at every token of the stream.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_training.files import json_digest
from robosteer_training.heads.edited_loss import EditedLoss, Stack
from robosteer_training.heads.partial import PartialResult


@dataclasses.dataclass(frozen=True)
class CmaSettings:
    """How noise is put on heads.

    Attributes:
        noise_scale: deviation of the noise in deviations of the head's output.
        noise_draws: draws of the noise per head.
        frames: frames to measure on, spread evenly.
        block: frames per compiled pass.
        chunk: heads per compiled pass.
    """

    noise_scale: float = 1.0
    noise_draws: int = 2
    frames: int = 128
    block: int = 16
    chunk: int = 16

    def __post_init__(self) -> None:
        if min(self.noise_draws, self.frames, self.block, self.chunk) < 1 or not self.noise_scale > 0:
            raise RobosteerError("cma: found a count below 1 or no noise, expected draws, frames and noise")


@dataclasses.dataclass(frozen=True)
class CmaResult:
    """What causal ablation found.

    Attributes:
        effect: (L, N) rise of the loss, mean over draws.
        spread: (L, N) deviation of that rise between draws.
        loss: without noise.
    """

    effect: np.ndarray
    spread: np.ndarray
    loss: float


def causal_effects(
    loss: EditedLoss,
    rows: np.ndarray,
    settings: CmaSettings,
    *,
    key: str = "",
    path: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CmaResult:
    """Measure every head.

    Args:
        loss: the model's error under edits ("flow").
        rows: frames.
        settings: how.
        key: identifies model, data and settings of the loss.
        path: of the result; unfinished work is kept beside it and continued.
        progress: called with (passes done, passes).
    """
    block = min(settings.block, settings.frames, len(rows))
    # Whole blocks, so that all share one program.
    rows = spread_rows(rows, min(settings.frames, len(rows)) // max(block, 1) * block)
    gemma = loss.config.paligemma
    shape, heads = (gemma.depth, gemma.num_heads), gemma.depth * gemma.num_heads
    # Edit 0 leaves everything as it is; then every head, in every draw.
    jobs = [(-1, 0), *((head, draw) for draw in range(settings.noise_draws) for head in range(heads))]
    blocks = [rows[i : i + block] for i in range(0, len(rows), block)]
    chunk = min(settings.chunk, len(jobs))
    chunks = [jobs[i : i + chunk] for i in range(0, len(jobs), chunk)]
    partial = PartialResult(path, json_digest(["cma", key, rows.tolist(), dataclasses.asdict(settings)]))
    state = partial.load() or {"done": np.array(0), "total": np.zeros(len(jobs))}
    done, total = int(state["done"]), state["total"]
    mean, deviation = loss.moments(rows[:: max(1, len(rows) // 32)])
    shared = (np.ones(shape, np.float32), np.zeros_like(mean), np.float32(settings.noise_scale) * deviation)
    passes = [(i, j) for i in range(len(blocks)) for j in range(len(chunks))]
    for at in range(done, len(passes)):
        here, part = blocks[passes[at][0]], chunks[passes[at][1]]
        padded = part + [(-1, 0)] * (chunk - len(part))
        mask = np.zeros((chunk, heads), np.float32)
        seed = np.zeros(chunk, np.uint32)
        for i, (head, draw) in enumerate(padded):
            if head >= 0:
                mask[i, head] = 1
                seed[i] = draw * len(blocks) + passes[at][0]
        found = loss(here, Stack(mask.reshape(chunk, *shape), seed, *shared))[: len(part)]
        first = passes[at][1] * chunk
        total[first : first + len(part)] += found / len(blocks)
        partial.save({"done": np.array(at + 1), "total": total})
        if progress is not None:
            progress(at + 1, len(passes))
    partial.done()
    rise = (total[1:] - total[0]).reshape(settings.noise_draws, *shape)
    return CmaResult(rise.mean(0), rise.std(0), float(total[0]))


def spread_rows(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the rows, evenly spread.

    Raises:
        RobosteerError: no rows.
    """
    if len(rows) == 0:
        raise RobosteerError(
            "frames: found none that can be used, expected some; check the recordings for stale inputs"
        )
    picks = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))
    return rows[picks]
