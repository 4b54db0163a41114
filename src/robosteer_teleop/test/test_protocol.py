"""The words on the wire.

Pins: a frame layout that drifts from docs/reference/teleop-protocol.md (the page is compiled against it); NaN or a null
quaternion reaching the control loop; unknown bits accepted from a newer page; JSON's NaN.
"""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robosteer_teleop.protocol import (
    FRAME_SIZE,
    HAPTICS,
    Buttons,
    Flags,
    PoseFrame,
    ProtocolError,
    decode_image,
    decode_json,
    encode_image,
    encode_json,
)

f32 = {"width": 32, "allow_nan": False}
metres = st.floats(-1000, 1000, **f32)
unit = st.floats(0, 1, **f32)
signed = st.floats(-1, 1, **f32)


@st.composite
def quaternions(draw):
    raw = draw(st.tuples(signed, signed, signed, signed).filter(lambda q: math.hypot(*q) > 0.1))
    return tuple(struct.unpack("<4f", struct.pack("<4f", *(x / math.hypot(*raw) for x in raw))))


@st.composite
def frames(draw):
    return PoseFrame(
        seq=draw(st.integers(0, 2**32 - 1)),
        send_time=draw(st.floats(0, 1e10)),
        frame_time=draw(st.floats(0, 1e10)),
        flags=Flags(draw(st.integers(0, 7))),
        buttons=Buttons(sum(draw(st.sets(st.sampled_from(list(Buttons)))))),
        position=draw(st.tuples(metres, metres, metres)),
        orientation=draw(quaternions()),
        trigger=draw(unit),
        squeeze=draw(unit),
        stick=draw(st.tuples(signed, signed)),
        head_position=draw(st.tuples(metres, metres, metres)),
        head_orientation=draw(quaternions()),
    )


@given(frames())
def test_what_is_encoded_is_decoded(frame):
    data = frame.encode()
    assert len(data) == FRAME_SIZE
    assert PoseFrame.decode(data) == frame


@given(st.binary(min_size=0, max_size=200))
def test_no_bytes_do_anything_but_decode_or_be_refused(data):
    try:
        frame = PoseFrame.decode(data)
    except ProtocolError:
        return
    assert frame.encode() == data


@given(st.binary(min_size=FRAME_SIZE - 4, max_size=FRAME_SIZE - 4))
def test_random_frames_of_the_right_version_are_finite_or_refused(tail):
    try:
        frame = PoseFrame.decode(b"\1\5\0\0" + tail)
    except ProtocolError:
        return
    assert all(map(math.isfinite, (*frame.position, *frame.orientation, frame.trigger, *frame.head_position)))


def test_the_layout_is_the_documented_one():
    frame = PoseFrame(7, 1.5, 2.5, Flags.TRACKED, Buttons.A, (1, 2, 3), (0, 0, 1, 0), 0.25, 0.5, (-1, 1), (4, 5, 6))
    data = frame.encode()
    for offset, kind, expected in [
        (0, "<B", 1),
        (1, "<B", 1),
        (2, "<H", 16),
        (4, "<I", 7),
        (8, "<d", 1.5),
        (16, "<d", 2.5),
        (32, "<f", 3),
        (44, "<f", 1),
        (52, "<f", 0.25),
        (56, "<f", 0.5),
        (60, "<f", -1),
        (76, "<f", 6),
        (92, "<f", 1),
    ]:
        assert struct.unpack_from(kind, data, offset) == (expected,), offset


@pytest.mark.parametrize(
    ("offset", "kind", "value", "says"),
    [
        (0, "<B", 2, "version"),
        (1, "<B", 8, "unknown bits"),
        (2, "<H", 4, "unknown bits"),
        (8, "<d", math.nan, "not finite"),
        (8, "<d", -1.0, "negative time"),
        (24, "<f", math.inf, "not finite"),
        (24, "<f", 1001.0, "beyond"),
        (48, "<f", 0.0, "quaternion"),
        (56, "<f", 1.5, "out of range"),
        (60, "<f", -1.5, "out of range"),
        (92, "<f", 0.9, "quaternion"),
    ],
)
def test_a_bad_field_is_refused_by_name(offset, kind, value, says):
    data = bytearray(PoseFrame(0, 1.0, 1.0).encode())
    struct.pack_into(kind, data, offset, value)
    with pytest.raises(ProtocolError, match=says):
        PoseFrame.decode(bytes(data))


def test_nothing_undecodable_is_encoded():
    with pytest.raises(ProtocolError):
        PoseFrame(0, math.nan, 0.0).encode()
    with pytest.raises(ProtocolError):
        PoseFrame(2**32, 0.0, 0.0).encode()


@given(st.integers(0, 9), st.integers(0, 2**40), st.floats(0, 1e6), st.binary(min_size=1))
def test_images_round_trip(camera, seq, time_s, jpeg):
    message = decode_image(encode_image(camera, seq, time_s, jpeg))
    assert (message.camera, message.seq, message.time_s, message.jpeg) == (camera, seq % 2**32, time_s, jpeg)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"type":1}', '{"type":"x","a":NaN}', "[" * 100_000, '{"type":"x"'),
        '{"type":"pong","id":1,"client_s":1e999}',
        '{"type":"pong","id":1,"client_s":' + "9" * 400 + "}",
        '{"type":"pong","id":1,"client_s":' + "9" * 4500 + "}",
        '{"type":"hello","code":"\\ud800"}',
    ],
    ids=range(11),
)
def test_json_that_is_no_message_is_refused(text):
    with pytest.raises(ProtocolError):
        decode_json(text)


def test_json_round_trips_without_nan():
    assert decode_json(encode_json({"type": "state", "task": "Würfel"})) == {"type": "state", "task": "Würfel"}
    with pytest.raises(ValueError, match="JSON"):
        encode_json({"type": "state", "rate": math.nan})


def test_the_haptic_grammar_fits_the_actuator():
    assert all(0 < h.strength <= 1 and 0 < h.duration_ms <= 300 and 1 <= h.repeats <= 3 for h in HAPTICS.values())
