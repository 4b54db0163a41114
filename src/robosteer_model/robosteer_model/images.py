"""Image resizing with padding, in the two ways that openpi does it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from robosteer_model.errors import ModelError


def _fitted(height: int, width: int, target_height: int, target_width: int) -> tuple[int, int]:
    ratio = max(width / target_width, height / target_height)
    return int(height / ratio), int(width / ratio)


def resize_with_pad_pil(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize with PIL's bilinear filter, keep the aspect ratio, pad with zeros.

    This is what openpi does to training data and to served observations.

    Args:
        images: (..., h, w, 3) uint8.
        height: target rows.
        width: target columns.

    Returns:
        (..., height, width, 3) uint8; the input itself when it already has the size.

    Raises:
        ModelError: for other shapes or dtypes.
    """
    if images.ndim < 3 or images.shape[-1] != 3 or images.dtype != np.uint8 or images.size == 0:
        raise ModelError(f"image: found {images.dtype} {images.shape}, expected uint8 of shape (..., h, w, 3)")
    if images.shape[-3:-1] == (height, width):
        return images
    flat = images.reshape(-1, *images.shape[-3:])
    resized = np.stack([_resize_one(image, height, width) for image in flat])
    return resized.reshape(*images.shape[:-3], height, width, 3)


def _resize_one(image: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = _fitted(image.shape[0], image.shape[1], height, width)
    if rows == 0 or columns == 0:
        raise ModelError(f"image: found shape {image.shape}, expected a ratio that survives {height}x{width}")
    resized = Image.fromarray(image).resize((columns, rows), resample=Image.Resampling.BILINEAR)
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = int((height - rows) / 2), int((width - columns) / 2)
    canvas[top : top + rows, left : left + columns] = np.asarray(resized)
    return canvas


def _linear_weights(size: int, target: int) -> np.ndarray:
    """Antialiased triangle filter from `size` to `target` samples: (size, target) float32."""
    step = np.float32(1.0 / (target / size))
    radius = max(step, np.float32(1))
    centers = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * step - np.float32(0.5)
    distance = np.abs(centers[None] - np.arange(size, dtype=np.float32)[:, None]) / radius
    weights = np.maximum(np.float32(0), np.float32(1) - distance)
    return weights / np.sum(weights, axis=0, keepdims=True)


def _resize_linear(images: jax.Array, rows: int, columns: int) -> jax.Array:
    """`jax.image.resize(method="linear")` as two plain contractions, rows first.

    Newer XLA fuses the library's version into other rounding, which turns exact halves (frequent with uint8) the other
    way; these contractions give the numbers of openpi's JAX.
    """
    highest = jax.lax.Precision.HIGHEST
    height, width = images.shape[-3:-1]
    resized = images.astype(jnp.float32)
    if rows != height:
        resized = jnp.einsum("...hwc,hH->...Hwc", resized, _linear_weights(height, rows), precision=highest)
    if columns != width:
        resized = jnp.einsum("...hwc,wW->...hWc", resized, _linear_weights(width, columns), precision=highest)
    return resized


def resize_with_pad(images: jax.Array, height: int, width: int) -> jax.Array:
    """Resize with an antialiased linear filter in float32, keep the aspect ratio, pad with black.

    This is what openpi does inside the model when an image does not have the model's resolution.

    Args:
        images: (..., h, w, c) uint8, or float32 in [-1, 1].
        height: target rows.
        width: target columns.

    Returns:
        (..., height, width, c) of the same dtype.

    Raises:
        ModelError: for other dtypes.
    """
    if images.dtype not in (jnp.uint8, jnp.float32):
        raise ModelError(f"image: found {images.dtype}, expected uint8 or float32")
    rows, columns = _fitted(images.shape[-3], images.shape[-2], height, width)
    resized = _resize_linear(images, rows, columns)
    if images.dtype == jnp.uint8:
        resized, black = jnp.round(resized).clip(0, 255).astype(jnp.uint8), 0
    else:
        resized, black = resized.clip(-1.0, 1.0), -1.0
    top, left = (height - rows) // 2, (width - columns) // 2
    padding = [(0, 0)] * (images.ndim - 3)
    padding += [(top, height - rows - top), (left, width - columns - left), (0, 0)]
    return jnp.pad(resized, padding, constant_values=black)


def convert_to_uint8(image: np.ndarray) -> np.ndarray:
    """Float images in [0, 1] become uint8 by truncation of 255 x; others pass unchanged."""
    if np.issubdtype(image.dtype, np.floating):
        return (255 * image).astype(np.uint8)
    return image


def parse_image(image: np.ndarray) -> np.ndarray:
    """An image as clients send it to uint8 (h, w, 3).

    Args:
        image: uint8 (h, w, 3), or float (3, h, w) in [0, 1] as LeRobot stores it.

    Raises:
        ModelError: for anything else.
    """
    array = convert_to_uint8(np.asarray(image))
    if array.ndim == 3 and array.shape[0] == 3:
        array = np.transpose(array, (1, 2, 0))
    if array.ndim != 3 or array.shape[-1] != 3 or array.dtype != np.uint8:
        raise ModelError(f"image: found {np.asarray(image).dtype} {np.shape(image)}, expected uint8 (h, w, 3)")
    return array
