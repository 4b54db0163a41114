"""A rig and messages for tests; the message objects have the fields of ROS messages and nothing else."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from robosteer_rig.messages import ImageSample, JointSample
from robosteer_rig.rig import Rig, load_rig

RIGS = Path(__file__).parents[2] / "robosteer_bringup" / "config" / "rigs"
MS = 1_000_000


def sim_rig() -> Rig:
    return load_rig(RIGS / "sim_panda.yaml")


def header(stamp_ns: int) -> SimpleNamespace:
    return SimpleNamespace(stamp=SimpleNamespace(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9))


def joint_state(stamp_ns, names, position=(), velocity=()) -> SimpleNamespace:
    return SimpleNamespace(header=header(stamp_ns), name=list(names), position=list(position), velocity=list(velocity))


def encode(pixels: np.ndarray, codec: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, codec)
    return file.getvalue()


def compressed(stamp_ns, pixels, format="jpeg") -> SimpleNamespace:
    data = encode(pixels, "PNG" if "png" in format else "JPEG")
    return SimpleNamespace(header=header(stamp_ns), format=format, data=data)


GREY = ImageSample(encode(np.full((180, 320, 3), 128, np.uint8)), "jpeg")
ZERO = JointSample(np.zeros(7), np.zeros(7))
