"""The auxiliary head: from image tokens to where every cube is. Used in pretraining only, never saved.

A policy loss alone teaches a small encoder to see only what the demonstrations reward. Asking for the position of
*every* cube makes the frozen encoder describe also the objects that the base was never told to touch, as a large
pretrained encoder does.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def init_head(key: jax.Array, width: int, objects: int, cameras: int) -> dict[str, jax.Array]:
    """Weights of the auxiliary head for image tokens of a width."""
    key_query, key_out = jax.random.split(key)
    return {
        "query": jax.random.normal(key_query, (cameras, objects, width)) / width**0.5,
        "kernel": jax.random.normal(key_out, (objects, cameras * width, 3)) / (cameras * width) ** 0.5,
        "bias": jnp.zeros((objects, 3)),
    }


def localisation_loss(head: dict[str, jax.Array], tokens: list[jax.Array], positions: jax.Array) -> jax.Array:
    """Mean squared error of the predicted positions of the objects that are present.

    Args:
        head: weights from `init_head`.
        tokens: one (B, T, D) array of image tokens per camera.
        positions: (B, objects, 3) in normalised units; NaN where the object is absent.

    Returns:
        Scalar.
    """
    pooled = []
    for camera, features in enumerate(tokens):
        scores = jnp.einsum("btd,od->bot", features, head["query"][camera])
        pooled.append(jnp.einsum("bot,btd->bod", jax.nn.softmax(scores, axis=-1), features))
    predicted = jnp.einsum("bod,odk->bok", jnp.concatenate(pooled, axis=-1), head["kernel"]) + head["bias"]
    present = ~jnp.isnan(positions)
    error = jnp.where(present, predicted - jnp.nan_to_num(positions), 0.0)
    return jnp.sum(error**2) / jnp.maximum(jnp.sum(present), 1)


def normalise_positions(positions: Any) -> Any:
    """Metres in the robot's base frame to about [-1, 1] over the workspace."""
    centre, half_size = jnp.array([0.52, 0.0, 0.1]), jnp.array([0.2, 0.3, 0.15])
    return (positions - centre) / half_size
