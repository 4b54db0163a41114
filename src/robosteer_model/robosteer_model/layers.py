"""Small functions of the Gemma stack: norms, rotary and sinusoidal embeddings, masks, positions, plain linears.

Axis letters: B batch, T query length, S key length, N heads, H head dim, D width.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

RMS_NORM_EPSILON = 1e-6
ROPE_MAX_WAVELENGTH = 10_000


def rms_norm(
    params: dict[str, Any], x: jax.Array, condition: jax.Array | None = None
) -> tuple[jax.Array, jax.Array | None]:
    """RMSNorm, plain (`scale`) or adaptive (`Dense_0` over a condition), statistics in float32.

    Args:
        params: `{"scale": (D,)}` or `{"Dense_0": {"kernel": (C, 3D), "bias": (3D,)}}`.
        x: (B, T, D).
        condition: (B, C) for the adaptive norm, or (B, T, C) with one for every token.

    Returns:
        (B, T, D) in x's dtype, and the gate (B, 1 or T, D) of the branch that follows (None for the plain norm).
    """
    wide = x.astype(jnp.float32)
    normed = wide * jnp.reciprocal(jnp.sqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + RMS_NORM_EPSILON))
    if "Dense_0" not in params:
        return (normed * (1 + params["scale"])).astype(x.dtype), None
    if condition is None:
        raise ValueError("an adaptive norm needs its condition")
    dense = params["Dense_0"]
    modulation = condition.astype(x.dtype) @ dense["kernel"].astype(x.dtype) + dense["bias"].astype(x.dtype)
    modulation = modulation[:, None, :] if condition.ndim == 2 else modulation
    scale, shift, gate = jnp.split(modulation, 3, axis=-1)
    return (normed * (1 + scale) + shift).astype(x.dtype), gate


def rotate(x: jax.Array, positions: jax.Array) -> jax.Array:
    """Rotary embedding of (B, T, N, H) at integer positions (B, T), in float32."""
    half = x.shape[-1] // 2
    wavelengths = ROPE_MAX_WAVELENGTH ** ((2.0 / x.shape[-1]) * jnp.arange(half, dtype=jnp.float32))
    angle = (positions[..., None] / wavelengths)[..., None, :]
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    first, second = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def posemb_sincos(time: jax.Array, width: int, min_period: float = 4e-3, max_period: float = 4.0) -> jax.Array:
    """Embedding (B, width) of a scalar per batch element; periods are spaced geometrically."""
    fraction = jnp.linspace(0.0, 1.0, width // 2)
    period = min_period * (max_period / min_period) ** fraction
    # Angles reach 1600 rad: the order of operations and full float32 products decide the last digits.
    angle = jnp.einsum("i,j->ij", time, 1.0 / period * 2 * jnp.pi, precision=jax.lax.Precision.HIGHEST)
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def linear(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Affine map in the promotion of input and parameter dtypes (float32 in training, bf16 with bf16 parameters)."""
    dtype = jnp.result_type(x, params["kernel"], params["bias"])
    return x.astype(dtype) @ params["kernel"].astype(dtype) + params["bias"].astype(dtype)


def attention_mask(valid: jax.Array, autoregressive: jax.Array) -> jax.Array:
    """Which key each query sees.

    Args:
        valid: bool (B, S), False for padding.
        autoregressive: (S,) or (B, S); a 1 opens a block that earlier tokens cannot see. Tokens of one block see
            each other.

    Returns:
        bool (B, S, S), [batch, query, key].
    """
    block = jnp.cumsum(jnp.broadcast_to(autoregressive, valid.shape).astype(jnp.int32), axis=1)
    return (block[:, None, :] <= block[:, :, None]) & valid[:, None, :] & valid[:, :, None]


def positions_of(valid: jax.Array) -> jax.Array:
    """Positions (B, S) that count valid tokens only; padding repeats the position before it."""
    return jnp.cumsum(valid, axis=1) - 1


def last_valid_index(valid: jax.Array) -> jax.Array:
    """Index (B,) of the last True of each row of (B, S)."""
    return valid.shape[1] - 1 - jnp.argmax(valid[:, ::-1], axis=1)


def embed_tokens(table: jax.Array, ids: jax.Array, dtype: Any) -> jax.Array:
    """Rows of the embedding table times sqrt(D), the factor rounded to the table's dtype."""
    table = jnp.asarray(table)  # a numpy table cannot be indexed by traced ids
    return (table[ids] * jnp.asarray(math.sqrt(table.shape[1]), table.dtype)).astype(dtype)
