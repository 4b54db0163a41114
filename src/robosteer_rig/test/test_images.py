"""Images.

Regressions pinned: red and blue swapped; a forged header makes a gigantic allocation; a camera with another resolution
is silently stretched; padding at the end of raw rows shifts the picture.
"""

import dataclasses
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robosteer_rig.droid import observation
from robosteer_rig.errors import RobosteerError
from robosteer_rig.frame import Frame
from robosteer_rig.images import (
    MAX_PIXELS,
    compression_of,
    decode_image,
    decode_raw,
    prepare,
    prepare_compressed,
    reduction,
)
from robosteer_rig.parts import Crop

from .bench import encode, sim_rig

RED = np.zeros((180, 320, 3), np.uint8) + np.array([250, 10, 20], np.uint8)


def forged_png(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 10)
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data, b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("text", ["jpeg", "jpg", "bgra8; jpeg compressed bgr8", "rgb8; jpeg compressed "])
def test_format_of_image_transport(text):
    assert compression_of(text) == "jpeg"


@pytest.mark.parametrize("text", ["", "theora", "h264", "compressedDepth"])
def test_foreign_format(text):
    with pytest.raises(RobosteerError, match="expected jpeg or png"):
        compression_of(text)


def test_colours_are_rgb_from_every_source():
    assert np.abs(decode_image(encode(RED), "jpeg").astype(int) - RED).max() <= 3
    assert (decode_image(encode(RED, "PNG"), "png") == RED).all()
    for encoding, order in {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0)}.items():
        pixels = RED[:, :, order]
        if encoding.endswith("a8"):
            pixels = np.concatenate([pixels, np.full((180, 320, 1), 255, np.uint8)], axis=2)
        padded = np.concatenate([pixels.reshape(180, -1), np.zeros((180, 5), np.uint8)], axis=1)
        assert (decode_raw(padded.tobytes(), encoding, 320, 180, padded.shape[1]) == RED).all()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff",
        encode(RED)[:-200],
        encode(RED, "PNG"),
        forged_png(100_000, 100_000),
        forged_png(9000, 9000),
    ],
)
def test_damaged_or_absurd_images_are_one_error(data):
    with pytest.raises(RobosteerError):
        decode_image(data, "jpeg")
    if data[:4] == b"\x89PNG" and len(data) < 200:
        with pytest.raises(RobosteerError):
            decode_image(data, "png")


@pytest.mark.parametrize(
    ("encoding", "width", "height", "step", "size"),
    [
        ("mono8", 4, 4, 4, 16),
        ("rgb8", 4, 4, 11, 44),
        ("rgb8", 4, 4, 12, 47),
        ("rgb8", 0, 4, 12, 48),
        ("rgb8", MAX_PIXELS, 2, 3 * MAX_PIXELS, 10),
    ],
)
def test_raw_sizes_must_fit_together(encoding, width, height, step, size):
    with pytest.raises(RobosteerError):
        decode_raw(bytes(size), encoding, width, height, step)


@given(st.binary(max_size=300))
def test_any_bytes_give_an_image_or_one_error(data):
    for codec, start in (("jpeg", b"\xff\xd8\xff\xe0"), ("png", forged_png(3, 3)[:33])):
        with pytest.raises(RobosteerError):
            decode_image(start + data, codec)


def test_prepare_crops_the_centre_and_refuses_other_sizes():
    camera = sim_rig().cameras["left"]
    image = np.zeros((180, 320, 3), np.uint8)
    image[:, :70] = 255  # outside the crop
    image[:, 250:] = 255
    image[:, 160:250] = 100
    view = prepare(image, camera)
    assert view.shape == (64, 64, 3)
    assert view.max() == 100
    assert (view[:, :31] == 0).all()
    assert (view[:, 33:] == 100).all()
    with pytest.raises(RobosteerError, match="found 640x360, expected 320x180"):
        prepare(np.zeros((360, 640, 3), np.uint8), camera)
    with pytest.raises(RobosteerError, match="float32"):
        prepare(np.zeros((180, 320, 3), np.float32), camera)


@pytest.mark.parametrize(("codec", "size"), [("jpeg", 64), ("png", 64), ("jpeg", 180)])
def test_the_short_way_gives_the_same_pixels(codec, size):
    camera = dataclasses.replace(sim_rig().cameras["left"], output_size=size)
    data = encode(np.random.default_rng(0).integers(0, 256, (180, 320, 3), dtype=np.uint8), codec.upper())
    assert np.array_equal(prepare_compressed(data, codec, camera), prepare(decode_image(data, codec), camera))


def test_a_large_jpeg_is_decoded_at_half_its_size_without_moving_anything():
    """Pins: reduction shifts the picture, or leaves fewer pixels than the resize needs, or changes small cameras."""
    crop = Crop(280, 0, 720)
    camera = dataclasses.replace(sim_rig().cameras["left"], width=1280, height=720, crop=crop, output_size=224)
    assert reduction(camera) == 2
    assert reduction(sim_rig().cameras["left"]) == 1  # 90 px are too few for 64
    assert reduction(dataclasses.replace(camera, crop=Crop(281, 0, 718))) == 1  # no whole pixel
    assert reduction(dataclasses.replace(camera, output_size=16)) == 8
    x, y = np.meshgrid(np.arange(1280), np.arange(720))
    waves = 128 + 80 * np.sin(x / 23) * np.cos(y / 17)
    image = np.stack([waves, x / 5, y / 3], axis=2).astype(np.uint8)
    data = encode(image)
    short, long = prepare_compressed(data, "jpeg", camera), prepare(decode_image(data, "jpeg"), camera)
    assert np.abs(short.astype(float) - long).mean() < 0.7
    shifted = np.roll(long, 1, axis=1).astype(float)
    assert np.abs(shifted - long)[:, 1:].mean() > 1.5  # so a shift by one pixel would be seen
    with pytest.raises(RobosteerError, match="found 320x180, expected 1280x720"):
        prepare_compressed(encode(image[:180, :320]), "jpeg", camera)


def test_droid_observation_routes_cameras_by_name():
    rig = sim_rig()
    images = {name: np.full((64, 64, 3), i, np.uint8) for i, name in enumerate(rig.cameras)}
    frame = Frame(0, images, np.arange(7.0), np.full(7, 9.0), 0.25)
    found = observation(frame, rig, "pick up red cube")
    assert found["observation/exterior_image_1_left"] is images["left"]
    assert found["observation/wrist_image_left"] is images["wrist"]
    assert found["observation/joint_position"].tolist() == list(range(7))
    assert found["observation/gripper_position"].tolist() == [0.25]
    assert found["observation/gripper_position"].shape == (1,)
    assert found["prompt"] == "pick up red cube"
