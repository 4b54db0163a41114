"""Openpi's image augmentation during training, by augmax 0.4.1 (the version that its numbers come from).

In that version the saturation jitter has no effect and brightness and contrast act on the HSV value channel; both are
part of what released checkpoints were trained with.
"""

from __future__ import annotations

import dataclasses
import functools

import augmax
import jax
import jax.numpy as jnp

from robosteer_model.observation import Observation

CROP = 0.95
ROTATION_DEG = 5


@functools.cache
def _chain(height: int, width: int, wrist: bool) -> augmax.Chain:
    """The transforms of one camera; wrist cameras keep their geometry, because it moves with the hand."""
    color = augmax.ColorJitter(brightness=0.3, contrast=0.4, saturation=0.5)
    if wrist:
        return augmax.Chain(color)
    return augmax.Chain(
        augmax.RandomCrop(int(width * CROP), int(height * CROP)),
        augmax.Resize(width, height),
        augmax.Rotate((-ROTATION_DEG, ROTATION_DEG)),
        color,
    )


def augment_images(key: jax.Array, images: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Augment every camera.

    Args:
        key: split into B keys; every camera uses the same B keys, as in openpi.
        images: camera -> float32 (B, h, w, 3) in [-1, 1]. A name with "wrist" in it marks a wrist camera.

    Returns:
        The same structure.
    """
    augmented = {}
    for name, batch in images.items():
        keys = jax.random.split(key, batch.shape[0])
        chain = _chain(batch.shape[1], batch.shape[2], "wrist" in name)
        changed = jnp.asarray(jax.vmap(chain)(keys, batch / 2.0 + 0.5))
        augmented[name] = changed * 2.0 - 1.0
    return augmented


def augment(key: jax.Array, observation: Observation) -> Observation:
    """An observation with augmented images (openpi's `train=True`); shape for `pi0.compute_loss(augment=...)`."""
    images = augment_images(key, {name: jnp.asarray(image) for name, image in observation.images.items()})
    return dataclasses.replace(observation, images=images)
