"""Real-time chunking: a new chunk that continues the one which is being executed meanwhile.

Guided (2506.07339): every flow step is corrected towards the old chunk by the gradient of the predicted actions,
equations 1-4, with tau = 1 - t because openpi's time runs from noise (t = 1) to actions. Trained (2512.05964): a model
that learned with the first actions given gets them as given, at t = 0, and needs no gradient.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Velocity = Callable[[jax.Array], tuple[jax.Array, dict[str, jax.Array]]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Guide:
    """What the new chunk continues.

    Attributes:
        previous: (H, A) old actions in the model's units, moved so that row k is for the same time as the new row k.
        weights: (H,) 1 where the old action will have been executed, falling to 0 where the new chunk is free.
        limit: largest weight of the correction, scalar.
        trained: whether the model was trained for it; rows of weight 1 are then given instead of corrected.
    """

    previous: Any
    weights: Any
    limit: Any = dataclasses.field(default_factory=lambda: np.float32(5.0))
    trained: bool = dataclasses.field(default=False, metadata={"static": True})


def held(guide: Guide | None, x_t: jax.Array) -> jax.Array:
    """With a trained model the given actions in place, (B, H, A)."""
    if guide is None or not guide.trained:
        return x_t
    given = (guide.weights >= 1)[None, :, None]
    return jnp.where(given, guide.previous[None], x_t).astype(x_t.dtype)


def held_times(guide: Guide | None, times: jax.Array) -> jax.Array:
    """Flow times: (B,), or with a trained model (B, H) with 0 for the given actions."""
    if guide is None or not guide.trained:
        return times
    return jnp.where((guide.weights >= 1)[None], 0.0, times[:, None])


def guided(
    guide: Guide | None, predict: Velocity, x_t: jax.Array, time: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The velocity, corrected towards the old chunk.

    Args:
        guide: None or trained: no correction, and nothing is computed for it.
        predict: x_t -> (u_t (B, H, A), taps); u_t = noise - actions.
        x_t: (B, H, A).
        time: t, scalar, 1 is noise.
    """
    if guide is None or guide.trained:
        return predict(x_t)

    def estimate(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, dict[str, jax.Array]]]:
        u_t, taps = predict(x)
        return x - time * u_t, (u_t, taps)

    actions, pull, (u_t, taps) = jax.vjp(estimate, x_t, has_aux=True)
    error = (guide.previous[None] - actions) * guide.weights[None, :, None]
    (gradient,) = pull(error.astype(actions.dtype))
    # min(beta, (1 - tau) / (tau r^2)) with r^2 = (1 - tau)^2 / (tau^2 + (1 - tau)^2); infinite at t = 1.
    tau = jnp.maximum(1 - time, 1e-6)
    weight = jnp.minimum(guide.limit, (tau**2 + time**2) / (tau * jnp.maximum(time, 1e-6)))
    # d(actions)/d(tau) = -u_t, so pushing the actions up means taking away from u_t.
    return u_t - weight * gradient, taps
