"""Making a readable bag of one that was never closed. The original is only read."""

from __future__ import annotations

import shutil
from pathlib import Path

from mcap.records import Channel, Schema
from rosbags.rosbag2.errors import ReaderError
from rosbags.rosbag2.metadata import parse_qos

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.bag_writer import BagWriter
from robosteer_teleop.mcap_stream import Damage, RawMessage, read_sound
from robosteer_teleop.survey import BagSurvey, survey_file, verify_file
from robosteer_teleop.topics import Connection, Definition, definition


def find_mcap(path: Path) -> Path:
    """Return the MCAP file of a bag given as file or directory.

    Raises:
        RobosteerError: when there is none, or more than one.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise RobosteerError(f"{path}: found no such file or directory, expected a bag; check the path")
    if any(path.glob("*.db3")):
        raise RobosteerError(
            f"{path}: found an SQLite bag, expected MCAP; SQLite recovers by its own journal when it is opened: try "
            "`ros2 bag reindex`, or `sqlite3 FILE .recover` on a copy"
        )
    files = sorted(path.glob("*.mcap"))
    if len(files) != 1:
        raise RobosteerError(f"{path}: found {len(files)} MCAP files, expected one; give the file itself")
    return files[0]


def recover_bag(source: Path, target: Path) -> tuple[BagSurvey, Damage]:
    """Copy everything sound of an MCAP file into a new, closed bag.

    Args:
        source: an MCAP file, complete or torn; never modified.
        target: directory of the new bag; must not exist.

    Returns:
        The survey of the new bag and what was unreadable in the source.

    Raises:
        RobosteerError: when the source holds no message, or the target exists.
        OSError: when the target cannot be written; nothing of it is left.
    """
    if target.exists():
        raise RobosteerError(f"{target}: found an existing directory, expected a new one; give another --out")
    found = survey_file(source)
    if not found.count:
        raise RobosteerError(f"{source}: found no readable message ({found.damage}), expected at least one")
    connections, channels = _connections(source)
    try:
        writer = BagWriter(target, connections, custom_data=found.custom_data)
        try:
            _copy_messages(source, writer, channels)
        except BaseException:
            writer.abandon()
            raise
        survey = verify_file(writer.path, writer.close())
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return survey, found.damage


def _connections(source: Path) -> tuple[list[Connection], dict[int, str]]:
    """Read all topics first: a bag lists its topics before its messages."""
    schemas: dict[int, Schema] = {}
    channels: dict[int, Channel] = {}
    for record in read_sound(source, Damage()):
        if isinstance(record, Schema):
            schemas[record.id] = record
        elif isinstance(record, Channel):
            channels.setdefault(record.id, record)
    connections: dict[str, Connection] = {}
    for channel in channels.values():
        if channel.schema_id in schemas:
            connections.setdefault(channel.topic, _connection(channel, schemas[channel.schema_id]))
    return list(connections.values()), {c.id: c.topic for c in channels.values() if c.topic in connections}


def _connection(channel: Channel, schema: Schema) -> Connection:
    try:
        type_hash = definition(schema.name).type_hash
    except RobosteerError:
        type_hash = ""  # not a standard type; the embedded definition is what counts
    try:
        qos = tuple(parse_qos(channel.metadata.get("offered_qos_profiles", "")))
    except (ReaderError, KeyError, TypeError):
        qos = ()  # QoS of another version: it only matters for playing the bag
    text = schema.data.decode("utf-8", errors="replace")
    return Connection(channel.topic, schema.name, Definition(text, type_hash, has_header=False), qos, schema.encoding)


def _copy_messages(source: Path, writer: BagWriter, channels: dict[int, str]) -> None:
    for record in read_sound(source, Damage()):
        if isinstance(record, RawMessage) and record.channel_id in channels:
            writer.write(channels[record.channel_id], record.log_ns, record.data)
