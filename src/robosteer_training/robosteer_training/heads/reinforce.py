"""REINFORCE: learn with which probability each head should stay, by the policy's own error.

As in Multimodal Task Vectors (Huang et al. 2024) and Visual Task Vectors (Hojel et al. 2024), which the Robotic
Steering paper takes as a baseline: one Bernoulli per head with logit θ = -1 at first, Adam with rate 0.1, the loss
standardised over the masks of a step. What is patched and what is rewarded is not stated for policies; here heads that
are not drawn are replaced by their mean over the data, and the reward is minus the error of the actions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optax

from robosteer_rig.errors import RobosteerError
from robosteer_training.files import json_digest
from robosteer_training.heads.edited_loss import EditedLoss, Stack
from robosteer_training.heads.partial import PartialResult

_CLAMP = 1e-3


@dataclasses.dataclass(frozen=True)
class ReinforceSettings:
    """How the probabilities are learned.

    Attributes:
        steps: updates.
        masks: masks drawn per update.
        batch: frames per update.
        learning_rate: of Adam.
        start: θ of every head at first.
        seed: of masks and batches.
        save_every: updates between two saves of unfinished work.
    """

    steps: int = 600
    masks: int = 32
    batch: int = 8
    learning_rate: float = 0.1
    start: float = -1.0
    seed: int = 0
    save_every: int = 10

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.save_every) < 1 or self.masks < 2:
            raise RobosteerError("reinforce: found a count below 1 (masks: 2), expected steps, masks and frames")


@dataclasses.dataclass(frozen=True)
class ReinforceResult:
    """What was learned.

    Attributes:
        theta: (L, N) logits of staying.
        losses: (steps,) mean loss over the masks of each update.
    """

    theta: np.ndarray
    losses: np.ndarray

    @property
    def probability(self) -> np.ndarray:
        """(L, N) of staying, as masks are drawn."""
        return _probability(self.theta)

    @property
    def dropped(self) -> np.ndarray:
        """(L, N) float64 probability of not staying, low for heads to keep.

        Not clamped: most heads that matter end at the clamp, where their order would be that of their numbers.
        """
        return 1 / (1 + np.exp(np.asarray(self.theta, np.float64)))


def learn_probabilities(
    loss: EditedLoss,
    rows: np.ndarray,
    settings: ReinforceSettings,
    *,
    key: str = "",
    path: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ReinforceResult:
    """Run the updates.

    Args:
        loss: the policy's error under edits ("actions").
        rows: frames to draw batches from.
        settings: how.
        key: identifies model, data and settings of the loss.
        path: of the result; unfinished work is kept beside it and continued.
        progress: called with (updates done, updates).
    """
    if len(rows) < settings.batch:
        raise RobosteerError(
            f"frames: found {len(rows)}, expected at least the batch of {settings.batch}; give --batch"
        )
    gemma = loss.config.paligemma
    shape = (gemma.depth, gemma.num_heads)
    partial = PartialResult(path, json_digest(["reinforce", key, rows.tolist(), dataclasses.asdict(settings)]))
    adam = optax.adam(settings.learning_rate)
    theta = np.full(shape, settings.start, np.float32)
    moments: Any = adam.init(theta)
    state = partial.load() or {"done": np.array(0), "losses": np.zeros(settings.steps)}
    done, losses = int(state["done"]), state["losses"]
    if done:
        theta = state["theta"]
        moments = (moments[0]._replace(count=state["count"], mu=state["mu"], nu=state["nu"]), *moments[1:])
    mean, _ = loss.moments(rows[:: max(1, len(rows) // 32)])
    zeros = np.zeros(shape, np.float32)
    for step in range(done, settings.steps):
        random = np.random.default_rng([settings.seed, step])
        probability = _probability(theta)
        kept = random.random((settings.masks, *shape)) < probability
        batch = np.sort(random.choice(rows, settings.batch, replace=False))
        stack = Stack((~kept).astype(np.float32), np.zeros(settings.masks, np.uint32), zeros, mean, zeros)
        found = loss(batch, stack)
        losses[step] = found.mean()
        update, moments = adam.update(policy_gradient(kept, found, probability), moments)
        theta = np.asarray(optax.apply_updates(theta, update), np.float32)
        if (step + 1) % settings.save_every == 0:
            adam_state = {name: np.asarray(getattr(moments[0], name)) for name in ("count", "mu", "nu")}
            partial.save({"done": np.array(step + 1), "losses": losses, "theta": theta, **adam_state})
        if progress is not None:
            progress(step + 1, settings.steps)
    partial.done()
    return ReinforceResult(theta, losses)


def policy_gradient(kept: np.ndarray, losses: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Gradient (L, N) of the expected loss by θ: mean over masks of d log p(mask) / dθ times the standardised loss.

    Args:
        kept: (M, L, N) bool.
        losses: (M,).
        probability: (L, N).
    """
    deviation = losses.std()
    standardised = (losses - losses.mean()) / deviation if deviation > 0 else np.zeros_like(losses)
    score = kept - probability
    return np.einsum("m,mln->ln", standardised, score).astype(np.float32) / len(losses)


def _probability(theta: np.ndarray) -> np.ndarray:
    return np.clip(1 / (1 + np.exp(-theta)), _CLAMP, 1 - _CLAMP)
