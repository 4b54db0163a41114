"""Image augmentation for 64-pixel views: small shifts and light changes, inside the compiled step.

A pixel of the exterior view is about 1.3 cm of table, so a shift is also an error of aim that the policy learns: one
pixel for the exterior view, none for the wrist's, whose geometry is what the last centimetres are steered by (openpi
spares wrist views the same way).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

SHIFT_PIXELS = (1, 0)
"""Largest shift of the exterior and of the wrist view."""


def augment_images(key: jax.Array, images: jax.Array, shift: int) -> jax.Array:
    """Shift each image by up to `shift` pixels (edges repeated) and change brightness, contrast and colour balance.

    Args:
        key: PRNG key.
        images: (B, h, w, 3) float32 in [-1, 1].
        shift: pixels in each direction; 0 leaves the geometry alone.

    Returns:
        The same shape and range.
    """
    batch = images.shape[0]
    key_shift, key_gain, key_offset = jax.random.split(key, 3)
    padded = jnp.pad(images, ((0, 0), (shift,) * 2, (shift,) * 2, (0, 0)), mode="edge")
    corner = jax.random.randint(key_shift, (batch, 2), 0, 2 * shift + 1)
    crop = jax.vmap(lambda image, c: jax.lax.dynamic_slice(image, (c[0], c[1], 0), images.shape[1:]))
    gain = jax.random.uniform(key_gain, (batch, 1, 1, 3), minval=0.9, maxval=1.1)
    offset = jax.random.uniform(key_offset, (batch, 1, 1, 1), minval=-0.1, maxval=0.1)
    return jnp.clip(crop(padded, corner) * gain + offset, -1, 1)
