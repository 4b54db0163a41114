"""Decode, crop and resize camera images: the only place where that happens, live, offline and in simulation."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from PIL import Image

from robosteer_rig.errors import RobosteerError
from robosteer_rig.fields import show
from robosteer_rig.parts import Camera

MAX_PIXELS = 64 * 1024 * 1024  # 64 Mpx: far above any camera here, far below what a forged header may claim.
MIN_OVERSAMPLING = 1.5  # Of a JPEG that is reduced while it is decoded, over the policy's image.
_PILLOW_FORMATS = {"jpeg": "JPEG", "png": "PNG"}
# Where R, G and B stand in each raw encoding, and its bytes per pixel.
_RAW_CHANNELS: dict[str, tuple[tuple[int, int, int], int]] = {
    "rgb8": ((0, 1, 2), 3),
    "bgr8": ((2, 1, 0), 3),
    "rgba8": ((0, 1, 2), 4),
    "bgra8": ((2, 1, 0), 4),
}


def compression_of(format_text: str) -> Literal["jpeg", "png"]:
    """The codec in a CompressedImage's `format`: "jpeg", "png", "bgra8; jpeg compressed bgr8" and the like.

    Raises:
        RobosteerError: for any other codec.
    """
    words = format_text.lower().replace(";", " ").split()
    if "jpeg" in words or "jpg" in words:
        return "jpeg"
    if "png" in words:
        return "png"
    raise RobosteerError(f"image format: found {show(format_text)}, expected jpeg or png")


def _check_size(width: int, height: int) -> None:
    if width <= 0 or height <= 0 or width * height > MAX_PIXELS:
        raise RobosteerError(f"image size: found {width}x{height}, expected at most {MAX_PIXELS // 1024**2} Mpx")


def _open(data: bytes | bytearray | memoryview, format: str, camera: Camera | None = None) -> Image.Image:
    """Decode to an RGB image; see `decode_image`.

    With a camera, the size must be the rig's, and a JPEG is decoded at the reduced size of `reduction`.
    """
    codec = _PILLOW_FORMATS[compression_of(format)]
    try:
        with Image.open(io.BytesIO(data), formats=(codec,)) as image:
            _check_size(*image.size)
            if camera is not None:
                _require_size(*image.size, camera)
                factor = reduction(camera)
                image.draft(None, (camera.width // factor, camera.height // factor))  # PNG has no such mode.
            image.load()
            return image if image.mode == "RGB" else image.convert("RGB")
    except RobosteerError:
        raise
    except Exception as error:  # Pillow's codecs raise OSError, SyntaxError, ValueError, struct.error and others.
        raise RobosteerError(
            f"image: found damaged {codec} data ({show(str(error))}), expected a whole image"
        ) from error


def reduction(camera: Camera) -> int:
    """By what factor a JPEG of this camera is reduced while it is decoded: 1, 2, 4 or 8.

    JPEG can be decoded at a fraction of its size, which halves the time of a 720p picture. What remains must be enough
    for the antialiased resize, and the crop must fall on whole pixels.
    """
    crop = camera.crop
    fits = (
        factor
        for factor in (8, 4, 2)
        if crop.size >= factor * MIN_OVERSAMPLING * camera.output_size
        and not any(edge % factor for edge in (crop.x0, crop.y0, crop.size))
    )
    return next(fits, 1)


def decode_image(data: bytes | bytearray | memoryview, format: str) -> np.ndarray:
    """Decode a JPEG or PNG; the size in the header is checked before any pixel is decoded.

    Args:
        data: the compressed file.
        format: the message's `format`.

    Returns:
        (h, w, 3) uint8 RGB.

    Raises:
        RobosteerError: for another codec, damaged data or an absurd size.
    """
    return np.asarray(_open(data, format), dtype=np.uint8)


def decode_raw(
    data: bytes | bytearray | memoryview | np.ndarray, encoding: str, width: int, height: int, step: int
) -> np.ndarray:
    """Decode a sensor_msgs/Image.

    Args:
        data: the message's bytes.
        encoding: rgb8, bgr8, rgba8 or bgra8.
        width: px.
        height: px.
        step: bytes per row, padding included.

    Returns:
        (h, w, 3) uint8 RGB, a copy.

    Raises:
        RobosteerError: for another encoding or when the sizes do not fit together.
    """
    if encoding not in _RAW_CHANNELS:
        raise RobosteerError(f"image encoding: found {show(encoding)}, expected one of {', '.join(_RAW_CHANNELS)}")
    order, channels = _RAW_CHANNELS[encoding]
    _check_size(width, height)
    flat = np.frombuffer(data, dtype=np.uint8)
    if step < width * channels or flat.size != step * height:
        raise RobosteerError(
            f"image data: found {flat.size} bytes with step {step}, expected {height} rows of at least "
            f"{width * channels} bytes"
        )
    rows = flat.reshape(height, step)[:, : width * channels]
    return rows.reshape(height, width, channels)[:, :, order].copy()


def prepare(image: np.ndarray, camera: Camera) -> np.ndarray:
    """Crop and resize (bilinear, antialiased) as the rig says.

    Args:
        image: (camera.height, camera.width, 3) uint8 RGB.
        camera: of the rig.

    Returns:
        (output_size, output_size, 3) uint8 RGB.

    Raises:
        RobosteerError: when the image has another size than the rig promises.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        shown = "x".join(map(str, image.shape))
        raise RobosteerError(f"image: found {shown} {image.dtype}, expected height x width x 3 uint8")
    _require_size(image.shape[1], image.shape[0], camera)
    crop = camera.crop
    square = image[crop.y0 : crop.y0 + crop.size, crop.x0 : crop.x0 + crop.size]
    return _resize(Image.fromarray(np.ascontiguousarray(square)), camera)


def prepare_compressed(data: bytes | bytearray | memoryview, format: str, camera: Camera) -> np.ndarray:
    """`prepare` of `decode_image`, without decoding more of a large JPEG than the result needs (see `reduction`).

    Args:
        data: a JPEG or PNG.
        format: the message's `format`.
        camera: of the rig.

    Returns:
        (output_size, output_size, 3) uint8 RGB.

    Raises:
        RobosteerError: as `decode_image` and `prepare`.
    """
    image = _open(data, format, camera)
    factor = camera.width // image.width
    x0, y0, size = (edge // factor for edge in (camera.crop.x0, camera.crop.y0, camera.crop.size))
    return _resize(image.crop((x0, y0, x0 + size, y0 + size)), camera)


def _require_size(width: int, height: int, camera: Camera) -> None:
    if (width, height) != (camera.width, camera.height):
        raise RobosteerError(
            f"image size: found {width}x{height}, expected {camera.width}x{camera.height}; "
            "correct width and height in the rig file or the camera's resolution"
        )


def _resize(square: Image.Image, camera: Camera) -> np.ndarray:
    side = (camera.output_size, camera.output_size)
    resized = square if square.size == side else square.resize(side, Image.Resampling.BILINEAR)
    return np.array(resized, dtype=np.uint8)
