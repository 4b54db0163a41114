"""Read the standard messages that the rig names, whether rclpy or rosbags made the objects.

Both give objects with the fields of the message definition, so that live and offline share this code without
importing either.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_rig.fields import show
from robosteer_rig.images import compression_of, decode_raw, prepare, prepare_compressed
from robosteer_rig.parts import COMPRESSED_IMAGE_TYPE, Camera
from robosteer_rig.units import stamp_ns


@dataclasses.dataclass(frozen=True)
class JointSample:
    """One measured or commanded joint vector in the rig's order.

    Attributes:
        position: (n,) rad; empty in a velocity command.
        velocity: (n,) rad/s; zeros when the message has none.
    """

    position: np.ndarray
    velocity: np.ndarray


@dataclasses.dataclass(frozen=True)
class ImageSample:
    """An image message, not yet decoded: most messages of a 60 Hz camera are never looked at.

    Attributes:
        data: the message's bytes.
        format: codec or raw encoding.
        layout: (width, height, step) of a raw image; None for a compressed one.
    """

    data: bytes
    format: str
    layout: tuple[int, int, int] | None = None

    def view(self, camera: Camera) -> np.ndarray:
        """Decode, crop and resize: (s, s, 3) uint8 RGB.

        Raises:
            RobosteerError: for damaged data or a size other than the rig's.
        """
        if self.layout is None:
            return prepare_compressed(self.data, self.format, camera)
        return prepare(decode_raw(self.data, self.format, *self.layout), camera)


def json_object(text: str) -> dict[str, Any] | None:
    """The JSON object in a std_msgs/String; None for anything else, whoever sent it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def header_stamp(message: Any) -> int:
    """Stamp of a message in ns; 0 when it has no header or an empty stamp."""
    header = getattr(message, "header", None)
    return 0 if header is None else stamp_ns(header.stamp.sec, header.stamp.nanosec)


def joint_sample(message: Any, names: tuple[str, ...], *, need: str = "position") -> JointSample | None:
    """Pick joints out of a sensor_msgs/JointState by name.

    Args:
        message: the message.
        names: the joints wanted, in order.
        need: "position" for states, "velocity" for commands.

    Returns:
        The sample, or None when a joint is missing, a list has another length than `name`, or a value is not finite.
    """
    present = {name: i for i, name in enumerate(message.name)}
    if any(name not in present for name in names) or len(present) != len(message.name):
        return None
    index = [present[name] for name in names]
    vectors = {}
    for field in ("position", "velocity"):
        values = np.asarray(getattr(message, field), dtype=np.float64)
        if len(values) == len(message.name):
            vectors[field] = values[index]
        elif field == need or len(values):
            return None
        else:
            vectors[field] = np.zeros(len(index) if field == "velocity" else 0)
    if not all(np.isfinite(v).all() for v in vectors.values()):
        return None
    for vector in vectors.values():
        vector.setflags(write=False)  # Samples are shared between frames.
    return JointSample(**vectors)


def array_command(message: Any, count: int) -> JointSample | None:
    """A std_msgs/Float64MultiArray of `count` joint velocities in rad/s, or None when it is something else."""
    values = np.asarray(message.data, dtype=np.float64)
    if values.shape != (count,) or not np.isfinite(values).all():
        return None
    return JointSample(np.zeros(0), values)


def image_sample(message: Any, camera: Camera) -> ImageSample:
    """Take an image message in without decoding it.

    Raises:
        RobosteerError: when codec, encoding or size differ from the rig's.
    """
    if camera.type == COMPRESSED_IMAGE_TYPE:
        codec = compression_of(message.format)
        if codec != camera.encoding:
            raise RobosteerError(f"image format: found {show(message.format)}, expected {camera.encoding}")
        return ImageSample(bytes(message.data), codec)
    if message.encoding != camera.encoding:
        raise RobosteerError(f"image encoding: found {show(message.encoding)}, expected {camera.encoding}")
    if (message.width, message.height) != (camera.width, camera.height):
        raise RobosteerError(
            f"image size: found {message.width}x{message.height}, expected {camera.width}x{camera.height}"
        )
    return ImageSample(bytes(message.data), message.encoding, (message.width, message.height, message.step))
