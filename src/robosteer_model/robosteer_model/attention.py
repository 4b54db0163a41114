"""Attention to image tokens, as maps over the patches of each camera's image."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_model.config import ModelConfig


def patch_maps(
    attention: jax.Array | np.ndarray,
    cameras: Sequence[str],
    config: ModelConfig,
    *,
    prefix: int | None = None,
    shift: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """Cut the image tokens out of a row of attention and lay them out as they lie in the image.

    Args:
        attention: (B, S, keys) probabilities over keys, the prefix's first: images in order of `cameras`, then text.
        cameras: image slots that were computed, in token order (`observation.present_cameras`).
        config: of the model; names the image's patches.
        prefix: number of prefix keys, with `shift`.
        shift: (B,) by how much each row's prefix is rolled to the left, as pi0-FAST does; None for not at all.

    Returns:
        Camera slot -> (B, S, patch rows, patch columns); patch (i, j) covers its own rectangle of the image.
    """
    size, patch, tokens = config.siglip.image_resolution, config.siglip.patch_size, config.siglip.num_tokens
    attention, maps = jnp.asarray(attention), {}
    for i, camera in enumerate(cameras):
        slots = jnp.arange(i * tokens, (i + 1) * tokens)[None]
        if shift is not None and prefix is not None:
            slots = (slots - shift[:, None]) % prefix
        picked = jnp.take_along_axis(attention, slots[:, None, :], axis=2)
        maps[camera] = picked.reshape(*picked.shape[:2], size[0] // patch[0], size[1] // patch[1])
    return maps
