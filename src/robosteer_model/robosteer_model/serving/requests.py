"""What a client may ask: the fields of the checkpoint's data layout, with sizes and dtypes that make sense."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from robosteer_model.errors import ModelError
from robosteer_model.layouts import DataLayout


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds on what a peer sends.

    Attributes:
        message_bytes: largest message; three raw 1280x720 images fit.
        image_side: largest height or width of an image in pixels.
        state_size: most numbers in one state field.
        prompt_chars: longest prompt.
        connections: most clients at a time.
        idle_s: a client that sends nothing for so long is disconnected.
    """

    message_bytes: int = 16 * 1024 * 1024
    image_side: int = 4096
    state_size: int = 256
    prompt_chars: int = 4096
    connections: int = 16
    idle_s: float = 3600.0


def check_request(message: Any, layout: DataLayout, limits: Limits) -> dict[str, Any]:
    """The fields of a request that the layout knows; others are left out.

    Args:
        message: what `wire.unpack` gave.
        layout: of the checkpoint.
        limits: bounds.

    Returns:
        Field -> value, ready for `Policy.infer`. Missing fields are the policy's business.

    Raises:
        ModelError: for values of a wrong kind, dtype or size.
    """
    if not isinstance(message, dict):
        raise ModelError(f"request: found {type(message).__name__}, expected a map of observation fields")
    request = {}
    for name in layout.images:
        if name in message:
            request[name] = _image(name, message[name], limits)
    for name in layout.state:
        if name in message:
            request[name] = _state(name, message[name], limits)
    if "prompt" in message:
        request["prompt"] = _prompt(message["prompt"], limits)
    return request


def _image(name: str, value: Any, limits: Limits) -> np.ndarray:
    plain = isinstance(value, np.ndarray) and value.ndim == 3 and 3 in (value.shape[0], value.shape[-1])
    if not plain or value.dtype not in (np.uint8, np.float32, np.float64):
        found = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise ModelError(f"{name}: found {found}, expected an image: uint8 (h, w, 3) or float (3, h, w)")
    if value.size == 0 or max(value.shape) > limits.image_side:
        raise ModelError(f"{name}: found shape {value.shape}, expected sides of 1..{limits.image_side} pixels")
    if value.dtype != np.uint8 and not (np.all(value >= 0) and np.all(value <= 1)):
        raise ModelError(f"{name}: found values outside [0, 1], expected a float image in [0, 1]")
    return value


def _state(name: str, value: Any, limits: Limits) -> np.ndarray:
    array = np.asarray(value) if isinstance(value, int | float | list | np.ndarray | np.generic) else None
    if array is None or array.dtype.kind not in "fiu" or array.ndim > 1 or array.size > limits.state_size:
        found = f"{array.dtype} {array.shape}" if array is not None else type(value).__name__
        raise ModelError(f"{name}: found {found}, expected at most {limits.state_size} numbers")
    if not np.isfinite(array).all():
        raise ModelError(f"{name}: found NaN or infinity, expected finite numbers")
    return array


def _prompt(value: Any, limits: Limits) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if not isinstance(text, str) or len(text) > limits.prompt_chars:
        raise ModelError(
            f"prompt: found {type(value).__name__}, expected text of at most {limits.prompt_chars} letters"
        )
    return text
