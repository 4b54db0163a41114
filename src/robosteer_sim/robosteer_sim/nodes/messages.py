"""The cell's measurements as standard messages."""

from __future__ import annotations

import array
import io
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from PIL import Image as PillowImage
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Header

from robosteer_sim.cell_model import CAMERAS

JPEG_QUALITY = 90


def stamp(time_ns: int) -> Time:
    """A message's stamp."""
    return Time(sec=time_ns // 1_000_000_000, nanosec=time_ns % 1_000_000_000)


def joint_state(
    names: Sequence[str],
    time_ns: int,
    position: np.ndarray,
    velocity: np.ndarray | None = None,
    effort: np.ndarray | None = None,
) -> JointState:
    """Measured joints: rad, rad/s, N m; left-out fields stay empty."""
    message = JointState(header=Header(stamp=stamp(time_ns)), name=list(names))
    message.position = np.asarray(position, dtype=float).tolist()
    message.velocity = [] if velocity is None else velocity.tolist()
    message.effort = [] if effort is None else effort.tolist()
    return message


def camera_header(camera: str, time_ns: int) -> Header:
    """Stamp and optical frame as the ZED driver names it."""
    return Header(stamp=stamp(time_ns), frame_id=f"{camera}_left_camera_frame_optical")


def _byte_array(data: bytes) -> array.array:
    # Assigning an ndarray would check every byte in Python, a hundred times slower.
    out = array.array("B")
    out.frombytes(data)
    return out


def compressed_image(header: Header, picture: np.ndarray) -> CompressedImage:
    """JPEG of a (h, w, 3) uint8 RGB picture, with image_transport's format text."""
    buffer = io.BytesIO()
    PillowImage.fromarray(picture).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return CompressedImage(header=header, format="bgra8; jpeg compressed bgr8", data=_byte_array(buffer.getvalue()))


def raw_image(header: Header, picture: np.ndarray) -> Image:
    """The same picture as bgra8, ZED's native encoding."""
    height, width = picture.shape[:2]
    pixels = np.full((height, width, 4), 255, np.uint8)
    pixels[..., :3] = picture[..., ::-1]
    return Image(
        header=header,
        height=height,
        width=width,
        encoding="bgra8",
        is_bigendian=0,
        step=4 * width,
        data=_byte_array(pixels.tobytes()),
    )


def camera_info(header: Header, camera: str, width: int, height: int) -> CameraInfo:
    """Intrinsics of the ideal pinhole camera; pixel centres have whole coordinates, as ROS counts them."""
    focal = CAMERAS[camera].focal_length_px(height)
    x, y = (width - 1) / 2, (height - 1) / 2
    return CameraInfo(
        header=header,
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[focal, 0.0, x, 0.0, focal, y, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[focal, 0.0, x, 0.0, 0.0, focal, y, 0.0, 0.0, 0.0, 1.0, 0.0],
    )
