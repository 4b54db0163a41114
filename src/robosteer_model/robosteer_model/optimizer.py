"""Optimisers and learning-rate schedules with openpi's semantics, as optax transformations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

Schedule = Callable[[jax.typing.ArrayLike], jax.typing.ArrayLike]


@dataclasses.dataclass(frozen=True)
class CosineSchedule:
    """Linear warm-up, then a cosine down to `decay_lr`, then constant.

    Attributes:
        warmup_steps: steps from peak/(warmup + 1) to the peak.
        peak_lr: highest learning rate.
        decay_steps: step at which `decay_lr` is reached, the warm-up included.
        decay_lr: final learning rate.
    """

    warmup_steps: int = 1000
    peak_lr: float = 2.5e-5
    decay_steps: int = 30_000
    decay_lr: float = 2.5e-6

    def create(self) -> Schedule:
        """Step -> learning rate."""
        return optax.warmup_cosine_decay_schedule(
            init_value=self.peak_lr / (self.warmup_steps + 1),
            peak_value=self.peak_lr,
            warmup_steps=self.warmup_steps,
            decay_steps=self.decay_steps,
            end_value=self.decay_lr,
        )


@dataclasses.dataclass(frozen=True)
class RsqrtSchedule:
    """Linear warm-up, then peak / sqrt(1 + steps since warm-up / timescale).

    Attributes:
        warmup_steps: steps from peak/(warmup + 1) to the peak.
        peak_lr: highest learning rate.
        timescale: steps after which the rate has fallen to peak / sqrt(2).
    """

    warmup_steps: int = 1000
    peak_lr: float = 5e-5
    timescale: float = 10_000

    def create(self) -> Schedule:
        """Step -> learning rate."""
        warmup = optax.linear_schedule(self.peak_lr / (self.warmup_steps + 1), self.peak_lr, self.warmup_steps)

        def decay(step: jax.typing.ArrayLike) -> jax.Array:
            return self.peak_lr / jnp.sqrt((self.timescale + step) / self.timescale)

        return optax.join_schedules([warmup, decay], [self.warmup_steps])


@dataclasses.dataclass(frozen=True)
class AdamW:
    """AdamW after clipping by the global norm.

    Attributes:
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to the root of the second moment.
        weight_decay: decoupled decay, on every leaf.
        clip_gradient_norm: largest global norm of the gradients of the leaves that it is given.
    """

    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 1e-10
    clip_gradient_norm: float = 1.0

    def create(self, learning_rate: Schedule | float) -> optax.GradientTransformation:
        """The transformation; give it trainable leaves only, so that frozen ones do not enter the norm."""
        return optax.chain(
            optax.clip_by_global_norm(self.clip_gradient_norm),
            optax.adamw(learning_rate, b1=self.b1, b2=self.b2, eps=self.eps, weight_decay=self.weight_decay),
        )
