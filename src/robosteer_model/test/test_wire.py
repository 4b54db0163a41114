"""The wire format.

Pins: what openpi sends is read and what we send is openpi's; nothing that a peer sends (object dtypes, sizes that do
not match, deep nesting, truncated bytes) gives anything but one `ModelError`.
"""

import contextlib

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny import GOLDEN

from robosteer_model.errors import ModelError
from robosteer_model.serving.wire import pack, unpack

ARRAYS = hnp.arrays(
    st.sampled_from([np.uint8, np.int64, np.float16, np.float32, np.float64, np.bool_]), hnp.array_shapes(min_dims=0)
)


@settings(deadline=None)
@given(ARRAYS)
def test_arrays_survive(array):
    found = unpack(pack({"a": array}))["a"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    assert not found.flags.writeable


def test_scalars_and_plain_values_survive():
    message = {"f": np.float32(1.5), "b": np.bool_(True), "i": 3, "t": "text", "n": None, "l": [1, {"x": 2.5}]}
    found = unpack(pack(message))
    assert found == message
    assert isinstance(found["f"], np.float32)


def encoded(**fields):
    array = {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "<f8", b"shape": [1]}
    return msgpack.packb(array | {name.encode(): value for name, value in fields.items()})


@pytest.mark.parametrize(
    "fields",
    [
        {"dtype": "O"},
        {"dtype": "|V8"},
        {"dtype": "<c16"},
        {"dtype": "<U2"},
        {"dtype": "<M8[ns]"},
        {"dtype": "f8,f8"},
        {"dtype": "(2,)f4"},
        {"dtype": 3},
        {"dtype": None},
        {"shape": [2]},
        {"shape": [-1]},
        {"shape": [2**62, 2**62]},
        {"shape": [0, 2**40]},
        {"shape": [True]},
        {"shape": "1"},
        {"shape": [1] * 40},
        {"data": "text...."},
        {"data": None},
    ],
)
def test_malformed_arrays_are_refused(fields):
    with pytest.raises(ModelError, match="message: found"):
        unpack(encoded(**fields))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x91" * 100_000,
        msgpack.packb({b"__npgeneric__": True, b"data": "x", b"dtype": "<f4"}),
        msgpack.packb({b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"}),
        msgpack.packb({1: 2}),
        msgpack.packb(msgpack.ExtType(1, b"x")),
        b"\xa1\xff",
    ],
)
def test_malformed_messages_are_refused(message):
    with pytest.raises(ModelError) as error:
        unpack(message)
    assert "\n" not in str(error.value)


def read_or_refuse(raw):
    """Anything but a `ModelError` fails the test."""
    with contextlib.suppress(ModelError):
        unpack(raw)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_real_messages_never_crash(data):
    raw = bytearray(np.load(GOLDEN / "shared_units.npz")["msgpack/bytes"].tobytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    read_or_refuse(bytes(raw[: data.draw(st.integers(0, len(raw)))]))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_random_bytes_never_crash(raw):
    read_or_refuse(raw)


@pytest.mark.parametrize("value", [object(), np.array(["text"]), np.array([None]), np.complex64(1), {1, 2}])
def test_what_cannot_be_sent_says_so(value):
    with pytest.raises(ModelError, match="message: found"):
        pack({"x": value})
