"""Auxiliary tasks of pretraining: what lies where, patch by patch and in the room. Never saved with the policy.

A policy loss alone teaches a small encoder to see only what the demonstrations reward. Asking every image token what
colour it holds and where, and asking all of them together where *every* object is, makes the encoder describe also the
objects that the base was never told to touch, as a large pretrained encoder does.

Nor does a policy loss teach quickly which of the objects the instruction means. The last prompt token is asked, halfway
up the prefix, where what it names is, and where that is to be brought; the layers above and the action expert then find
it there.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from robosteer_training.nano.config import COLOURS

# How much one channel must stand out for a pixel to count as coloured; images are in [-1, 1].
_COLOUR_MARGIN = 0.35
# Patches are mostly table: the targets are scaled to a size that the loss feels.
_TARGET_SCALE = 10.0


def colour_masks(images: jax.Array) -> jax.Array:
    """Which pixels are red, blue, green or yellow (the order of `config.COLOURS`).

    Args:
        images: (B, h, w, 3) in [-1, 1].

    Returns:
        (B, h, w, 4) float32, 0 or 1.
    """
    red, green, blue = images[..., 0], images[..., 1], images[..., 2]
    margins = [
        red - jnp.maximum(green, blue),
        blue - jnp.maximum(red, green),
        green - jnp.maximum(red, blue),
        jnp.minimum(red, green) - blue - 2 * jnp.abs(red - green),
    ]
    return (jnp.stack(margins, axis=-1) > _COLOUR_MARGIN).astype(jnp.float32)


def patch_targets(images: jax.Array, patch: tuple[int, int]) -> jax.Array:
    """Per patch and colour: the share of pixels of that colour and their first moments in x and y.

    Args:
        images: (B, h, w, 3) in [-1, 1].
        patch: (height, width) of a patch in pixels.

    Returns:
        (B, patches row by row, 12).
    """
    batch, height, width, _ = images.shape
    rows, columns = height // patch[0], width // patch[1]
    masks = colour_masks(images).reshape(batch, rows, patch[0], columns, patch[1], -1).transpose(0, 1, 3, 2, 4, 5)
    y, x = jnp.linspace(-1, 1, patch[0])[:, None, None], jnp.linspace(-1, 1, patch[1])[None, :, None]
    moments = [(masks * weight).mean((3, 4)) for weight in (1.0, x, y)]
    return _TARGET_SCALE * jnp.concatenate(moments, axis=-1).reshape(batch, rows * columns, -1)


def init_head(key: jax.Array, width: int, objects: int, cameras: int) -> dict[str, jax.Array]:
    """Weights of the auxiliary heads for image tokens of a width."""
    key_query, key_out, key_patch, key_target = jax.random.split(key, 4)
    return {
        "query": jax.random.normal(key_query, (cameras, objects, width)) * 4 / width**0.5,
        "kernel": jax.random.normal(key_out, (objects, cameras * width, 3)) / (cameras * width) ** 0.5,
        "bias": jnp.zeros((objects, 3)),
        "patch_kernel": jax.random.normal(key_patch, (width, 3 * len(COLOURS))) / width**0.5,
        "patch_bias": jnp.zeros(3 * len(COLOURS)),
        "target_kernel": jax.random.normal(key_target, (2, width, 3)) / width**0.5,
        "target_bias": jnp.zeros((2, 3)),
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
    return _error_of_present(predicted, positions)


def _error_of_present(predicted: jax.Array, positions: jax.Array) -> jax.Array:
    """Mean squared error where a position is not NaN."""
    present = ~jnp.isnan(positions)
    error = jnp.where(present, predicted - jnp.nan_to_num(positions), 0.0)
    return jnp.sum(error**2) / jnp.maximum(jnp.sum(present), 1)


def patch_loss(head: dict[str, jax.Array], tokens: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean squared error of the patch targets, read off each token by one linear map.

    Args:
        head: weights from `init_head`.
        tokens: (B, T, D).
        targets: (B, T, 12) from `patch_targets`.

    Returns:
        Scalar.
    """
    return jnp.mean(jnp.square(tokens @ head["patch_kernel"] + head["patch_bias"] - targets))


def target_loss(head: dict[str, jax.Array], hidden: jax.Array, positions: jax.Array) -> jax.Array:
    """Mean squared error of the position of what the instruction names, and of where it is to be brought.

    Args:
        head: weights from `init_head`.
        hidden: (B, D) residual stream at the last prompt token.
        positions: (B, 2, 3) in normalised units; NaN where the instruction names no goal.

    Returns:
        Scalar.
    """
    scale = jax.lax.rsqrt(jnp.mean(jnp.square(hidden), axis=-1, keepdims=True) + 1e-6)
    predicted = jnp.einsum("bd,gdk->bgk", hidden * scale, head["target_kernel"]) + head["target_bias"]
    return _error_of_present(predicted, positions)


def normalise_positions(positions: Any) -> Any:
    """Metres in the robot's base frame to about [-1, 1] over the workspace."""
    centre, half_size = jnp.array([0.52, 0.0, 0.1]), jnp.array([0.2, 0.3, 0.15])
    return (positions - centre) / half_size
