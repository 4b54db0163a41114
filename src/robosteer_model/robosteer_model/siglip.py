"""The image encoder: a pre-LN vision transformer whose patch tokens enter the language model unscaled.

Shapes: n images, S patches, W width, N heads, H head dim, D output width.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from robosteer_model.config import SiglipConfig
from robosteer_model.remat import Remat, rematerialised

LAYER_NORM_EPSILON = 1e-6


def encode_images(
    params: dict[str, Any], config: SiglipConfig, images: jax.Array, dtype: Any, *, remat: Remat = "off"
) -> jax.Array:
    """Encode images into tokens.

    Args:
        params: the tree below `PaliGemma/img`.
        config: sizes.
        images: (n, h, w, 3) in [-1, 1].
        dtype: compute dtype of the transformer; the patch embedding is always float32.
        remat: what the backward pass computes again (any but "off" means whole blocks).

    Returns:
        (n, S, D) in `dtype`, patches row by row.
    """
    x = _embed_patches(params["embedding"], config, images.astype(jnp.float32))
    x = (x + params["pos_embedding"]).astype(dtype)

    def block(x: jax.Array, layer: dict[str, Any]) -> tuple[jax.Array, None]:
        y = _layer_norm(layer["LayerNorm_0"], x)
        x = x + _attention(layer["MultiHeadDotProductAttention_0"], y, config.num_heads)
        y = _layer_norm(layer["LayerNorm_1"], x)
        mlp = layer["MlpBlock_0"]
        return x + dense(mlp["Dense_1"], jax.nn.gelu(dense(mlp["Dense_0"], y, dtype), approximate=True), dtype), None

    body = rematerialised(block, "off" if remat == "off" else "full")
    x, _ = jax.lax.scan(body, x, params["Transformer"]["encoderblock"])
    return dense(params["head"], _layer_norm(params["Transformer"]["encoder_norm"], x), dtype)


def dense(params: dict[str, jax.Array], x: jax.Array, dtype: Any) -> jax.Array:
    """Affine map over the last axis with input, kernel and bias cast to `dtype`."""
    return x.astype(dtype) @ params["kernel"].astype(dtype) + params["bias"].astype(dtype)


def _embed_patches(params: dict[str, jax.Array], config: SiglipConfig, images: jax.Array) -> jax.Array:
    """Non-overlapping VALID convolution as one matrix product: (n, h, w, 3) -> (n, S, W), float32."""
    height, width = config.patch_size
    rows, columns = images.shape[1] // height, images.shape[2] // width
    images = images[:, : rows * height, : columns * width]
    patches = images.reshape(-1, rows, height, columns, width, 3).transpose(0, 1, 3, 2, 4, 5)
    kernel = params["kernel"].astype(jnp.float32).reshape(height * width * 3, -1)
    return patches.reshape(-1, rows * columns, height * width * 3) @ kernel + params["bias"].astype(jnp.float32)


def _layer_norm(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Statistics in float32, variance as mean of squares minus squared mean; output in x's dtype."""
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.maximum(0.0, jnp.mean(jnp.square(wide), axis=-1, keepdims=True) - jnp.square(mean))
    scale = jax.lax.rsqrt(variance + LAYER_NORM_EPSILON) * params["scale"]
    return ((wide - mean) * scale + params["bias"]).astype(x.dtype)


def _attention(params: dict[str, Any], x: jax.Array, num_heads: int) -> jax.Array:
    """Full self-attention; softmax in x's dtype, as openpi's encoder has it."""
    dtype = x.dtype

    def project(name: str) -> jax.Array:
        leaf = params[name]
        return jnp.einsum("nsw,wkh->nskh", x, leaf["kernel"].astype(dtype)) + leaf["bias"].astype(dtype)

    query = project("query") / jnp.sqrt(x.shape[-1] // num_heads).astype(dtype)
    weights = jax.nn.softmax(jnp.einsum("nqkh,nskh->nkqs", query, project("key")), axis=-1)
    mixed = jnp.einsum("nkqs,nskh->nqkh", weights, project("value"))
    out = params["out"]
    return jnp.einsum("nqkh,khw->nqw", mixed, out["kernel"].astype(dtype)) + out["bias"].astype(dtype)
