"""Serialized messages, small bags and a running operator server for the tests of this package."""

import struct
from pathlib import Path

import pytest

from robosteer_rig.rig import load_rig
from robosteer_teleop.bag_writer import BagWriter
from robosteer_teleop.server import OperatorServer, ServerConfig
from robosteer_teleop.topics import Connection, definition

from .operator_bench import Watch, join

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


@pytest.fixture
def config(tmp_path):
    return ServerConfig(
        host="127.0.0.1", port=None, loopback_port=0, tls_directory=tmp_path, takeover_s=0.2, hello_timeout_s=0.2
    )


@pytest.fixture
def server(config):
    with OperatorServer(config) as running:
        yield running


@pytest.fixture
def watch(server):
    return Watch(server)


@pytest.fixture
def operator(server):
    with join(server) as client:
        yield client
