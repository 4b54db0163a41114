"""Serialized messages and small bags for the tests of this package."""

import struct
from pathlib import Path

import pytest

from robosteer_rig.rig import load_rig
from robosteer_teleop.bag_writer import BagWriter
from robosteer_teleop.topics import Connection, definition

RIG_FILE = Path(__file__).parents[2] / "robosteer_bringup/config/rigs/sim_panda.yaml"


class Messages:
    """Hand-made CDR, so that a fault of a serializer and one of ours cannot cancel out."""

    @staticmethod
    def float64(value):
        return b"\0\1\0\0" + struct.pack("<d", value)

    @staticmethod
    def header(stamp_ns, frame="x"):
        name = frame.encode() + b"\0"
        return b"\0\1\0\0" + struct.pack("<iII", *divmod(stamp_ns, 10**9), len(name)) + name

    @classmethod
    def image(cls, stamp_ns, content, frame="x"):
        head = cls.header(stamp_ns, frame)
        body = head + b"\0" * (-len(head) % 4) + struct.pack("<I", 5) + b"jpeg\0"
        return body + b"\0" * (-len(body) % 4) + struct.pack("<I", len(content)) + content


@pytest.fixture(scope="session")
def messages():
    return Messages


@pytest.fixture(scope="session")
def rig():
    return load_rig(RIG_FILE)


@pytest.fixture(scope="session")
def rig_file():
    return RIG_FILE


@pytest.fixture
def make_bag():
    """Return a function that writes a closed bag of rows (topic, type, log_ns, data) and returns its totals."""

    def make(directory, content, custom_data=None):
        types = {topic: message_type for topic, message_type, _, _ in content}
        connections = [Connection(topic, t, definition(t)) for topic, t in types.items()]
        writer = BagWriter(directory, connections, custom_data=custom_data or {})
        for topic, _, log_ns, data in content:
            writer.write(topic, log_ns, data)
        return writer.close()

    return make
