"""openpi's wire format: msgpack with numpy arrays, decoded without trusting the peer.

An array is a map with the *bytes* keys `__ndarray__`, `data`, `dtype`, `shape`; a numpy scalar has `__npgeneric__`,
`data`, `dtype`. Only plain numeric dtypes pass, and a shape must account for every byte that came with it.
"""

from __future__ import annotations

import math
from typing import Any

import msgpack
import numpy as np

from robosteer_model.errors import ModelError

ALLOWED_KINDS = "biuf"
MAX_DIMENSIONS = 8
MAX_SIZE = 2**31
MAX_TEXT = 64 * 1024
MAX_ITEMS = 4096


def _encode(value: Any) -> dict[bytes, Any]:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in ALLOWED_KINDS:
        raise ModelError(f"message: found dtype {value.dtype}, expected booleans, integers or floats")
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise ModelError(f"message: found {type(value).__name__}, expected arrays, numbers, text, lists and maps")


def pack(message: Any) -> bytes:
    """Serialise a message.

    Raises:
        ModelError: for values that the protocol cannot carry.
    """
    packed = msgpack.packb(message, default=_encode)
    return packed or b""


def _dtype(name: Any) -> np.dtype:
    text = name.decode("ascii", "replace") if isinstance(name, bytes) else name
    try:
        dtype = np.dtype(text) if isinstance(text, str) and len(text) <= 8 else None
    except (TypeError, ValueError, SyntaxError):
        dtype = None
    if dtype is None or dtype.kind not in ALLOWED_KINDS or dtype.itemsize > 8:
        raise ModelError(f"message: found dtype {str(name)[:32]!r}, expected booleans, integers or floats")
    return dtype


def _shape(value: Any) -> tuple[int, ...]:
    plain = isinstance(value, list | tuple) and len(value) <= MAX_DIMENSIONS
    if not plain or not all(type(n) is int and 0 <= n <= MAX_SIZE for n in value):
        raise ModelError("message: found a malformed array shape, expected a short list of sizes")
    return tuple(value)


def _array(fields: dict[Any, Any]) -> np.ndarray:
    dtype, shape, data = _dtype(fields.get(b"dtype")), _shape(fields.get(b"shape")), fields.get(b"data")
    if not isinstance(data, bytes):
        raise ModelError(f"message: found array data of type {type(data).__name__}, expected bytes")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ModelError(f"message: found {len(data)} bytes for shape {shape} of {dtype}, expected all of them")
    return np.ndarray(shape, dtype, data)


def _scalar(fields: dict[Any, Any]) -> np.generic:
    dtype, data = _dtype(fields.get(b"dtype")), fields.get(b"data")
    if not isinstance(data, bool | int | float):
        raise ModelError("message: found a malformed scalar, expected a number")
    try:
        return dtype.type(data)
    except (OverflowError, ValueError):
        raise ModelError(f"message: found {data!r}, expected a {dtype}") from None


def _decode(fields: dict[Any, Any]) -> Any:
    if b"__ndarray__" in fields:
        return _array(fields)
    if b"__npgeneric__" in fields:
        return _scalar(fields)
    return fields


def unpack(message: bytes) -> Any:
    """Read a message of a peer; arrays are read-only views of it.

    Raises:
        ModelError: for anything malformed, too deep, too long or of a refused dtype.
    """
    try:
        return msgpack.unpackb(
            message,
            object_hook=_decode,
            max_str_len=MAX_TEXT,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_ext_len=0,
        )
    except ModelError:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise ModelError(f"message: found no valid msgpack ({str(error)[:120]}), expected openpi's protocol") from None
