"""The bag format.

Pins: bags open with rosbags and with the mcap package, index and CRCs sound; metadata.yaml stays at version 8
(Humble cannot read 9); chunks stay small and close by age; every byte of a message survives.
"""

import struct

import pytest
import yaml
from mcap.reader import make_reader
from mcap.stream_reader import StreamReader
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2.metadata import parse_qos

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.bag_writer import BagTotals, BagWriter
from robosteer_teleop.survey import verify_file
from robosteer_teleop.topics import Connection, definition, recorded_topics

IMAGE, FLOAT = "sensor_msgs/msg/CompressedImage", "std_msgs/msg/Float64"
T0 = 1_700_000_000_000_000_000


@pytest.fixture
def content(messages):
    """3 s: an image of 40 kB every 33 ms, a number every ms; images keep stamps older than their arrival."""
    numbers = [("/number", FLOAT, T0 + i * 10**6, messages.float64(i)) for i in range(3000)]
    images = [
        ("/image", IMAGE, T0 + i * 33 * 10**6 + 7, messages.image(T0 + i * 33 * 10**6, bytes([i]) * 40_000))
        for i in range(90)
    ]
    return sorted(numbers + images, key=lambda row: row[2])


def test_rosbags_reads_every_message(tmp_path, content, make_bag):
    make_bag(tmp_path / "000000", content, {"instruction": "pick up red cube"})
    with AnyReader([tmp_path / "000000"]) as reader:
        found = [(c.topic, c.msgtype, t, bytes(raw)) for c, t, raw in reader.messages()]
        assert found == content
        connection = next(c for c in reader.connections if c.topic == "/image")
        _, _, raw = next(reader.messages([connection]))
        image = reader.deserialize(raw, connection.msgtype)
    assert image.format == "jpeg"
    assert image.header.stamp.sec == T0 // 10**9
    assert bytes(image.data) == bytes([0]) * 40_000


def test_mcap_reads_every_message_and_finds_sound_crcs(tmp_path, content, make_bag):
    make_bag(tmp_path / "000000", content)
    path = tmp_path / "000000/000000.mcap"
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        rows = [(c.topic, s.name, m.log_time, m.data) for s, c, m in reader.iter_messages()]
        assert rows == content
        half = T0 + 1_500_000_000
        assert len(list(reader.iter_messages(starting_at=half))) == sum(row[2] >= half for row in content)
        summary = reader.get_summary()
    assert summary.statistics.message_count == len(content)
    assert {s.encoding for s in summary.schemas.values()} == {"ros2msg"}
    assert "builtin_interfaces/Time stamp" in next(s for s in summary.schemas.values() if s.name == IMAGE).data.decode()
    with path.open("rb") as file:  # raises on a wrong CRC anywhere
        assert sum(1 for _ in StreamReader(file, validate_crcs=True).records) > len(content)


def test_publish_time_and_sequence(tmp_path, content, make_bag):
    make_bag(tmp_path / "000000", content)
    with (tmp_path / "000000/000000.mcap").open("rb") as file:
        numbers = [m for _, _, m in make_reader(file).iter_messages(topics=["/number"])]
    assert all(m.publish_time == m.log_time for m in numbers)
    assert [m.sequence for m in numbers] == list(range(1, 3001))
    assert [struct.unpack_from("<d", m.data, 4)[0] for m in numbers] == list(range(3000))


def test_chunks_close_by_age_and_by_size(tmp_path, content, make_bag):
    make_bag(tmp_path / "000000", content)
    with (tmp_path / "000000/000000.mcap").open("rb") as file:
        chunks = make_reader(file).get_summary().chunk_indexes
    assert (
        max(c.message_end_time - c.message_start_time for c in chunks) < 102_000_000
    )  # with the message that closes it
    big = [("/image", IMAGE, T0 + i, b"\0\1\0\0" + bytes(300_000)) for i in range(10)]
    make_bag(tmp_path / "000001", big)
    with (tmp_path / "000001/000001.mcap").open("rb") as file:
        chunks = make_reader(file).get_summary().chunk_indexes
    assert len(chunks) == 4
    assert max(c.uncompressed_size for c in chunks) <= 2**20


def test_metadata_yaml(tmp_path, content):
    seconds = QosTime(9223372036, 854775807)
    qos = Qos(
        QosHistory.KEEP_LAST, 10, QosReliability.RELIABLE, QosDurability.VOLATILE,
        seconds, seconds, QosLiveliness.AUTOMATIC, seconds, False,
    )  # fmt: skip
    topics = [Connection("/number", FLOAT, definition(FLOAT), (qos,)), Connection("/image", IMAGE, definition(IMAGE))]
    writer = BagWriter(tmp_path / "000000", topics, custom_data={"rig": "a: 1\nb: [2, 3]\n"})
    for topic, _, log_ns, data in content:
        writer.write(topic, log_ns, data)
    writer.close()
    information = yaml.safe_load((tmp_path / "000000/metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert information["version"] == 8
    assert information["storage_identifier"] == "mcap"
    assert information["relative_file_paths"] == ["000000.mcap"]
    assert information["message_count"] == len(content)
    assert information["starting_time"]["nanoseconds_since_epoch"] == T0
    assert information["duration"]["nanoseconds"] == content[-1][2] - T0
    assert information["custom_data"] == {"rig": "a: 1\nb: [2, 3]\n"}
    number, image = information["topics_with_message_count"]
    assert (number["message_count"], image["message_count"]) == (3000, 90)
    assert isinstance(number["topic_metadata"]["offered_qos_profiles"], str)  # version 8: YAML inside a string
    assert parse_qos(number["topic_metadata"]["offered_qos_profiles"]) == [qos]
    assert image["topic_metadata"]["type_description_hash"].startswith("RIHS01_")


def test_empty_bag_is_a_bag(tmp_path, rig):
    topics = [Connection(t.name, t.type, definition(t.type)) for t in recorded_topics(rig)]
    writer = BagWriter(tmp_path / "000000", topics, custom_data={})
    totals = writer.close()
    assert verify_file(writer.path, totals).count == 0
    with AnyReader([tmp_path / "000000"]) as reader:
        assert len(reader.connections) == len(topics)
        assert list(reader.messages()) == []


def test_verification_sees_a_lost_message_and_a_flipped_byte(tmp_path, content, make_bag):
    totals = make_bag(tmp_path / "000000", content)
    path = tmp_path / "000000/000000.mcap"
    wrong = BagTotals({**totals.counts, "/number": 3001}, totals.start_ns, totals.end_ns)
    with pytest.raises(RobosteerError, match="expected"):
        verify_file(path, wrong)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(RobosteerError, match="1 damaged chunks"):
        verify_file(path, totals)


def test_unknown_message_type_is_a_user_error():
    with pytest.raises(RobosteerError, match="'my_msgs/msg/Thing'"):
        definition("my_msgs/msg/Thing")
