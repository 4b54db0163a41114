"""One rosbag2 directory per episode: an MCAP file of raw serialized messages and its metadata.yaml.

metadata.yaml has version 8: version 9 stores QoS in a way that Humble cannot read, version 8 loads on Humble (with
its MCAP plugin), Jazzy and Kilted.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from rosbags.rosbag2.metadata import dump_qos_v8

from robosteer_teleop.mcap_file import McapFile
from robosteer_teleop.topics import Connection
from robosteer_teleop.write_behind import WriteBehindFile, write_durably

METADATA_FILE = "metadata.yaml"
METADATA_VERSION = 8
MAX_CHUNK_AGE_NS = 100_000_000  # what SIGKILL may cost, with what the transport and the poll hold on top
CUSTOM_DATA_RECORD = "robosteer"  # MCAP metadata record with the custom data, written first


@dataclasses.dataclass(frozen=True)
class BagTotals:
    """What a closed bag holds.

    Attributes:
        counts: topic -> messages.
        start_ns: log time of the first message, 0 for none.
        end_ns: log time of the last message, 0 for none.
    """

    counts: dict[str, int]
    start_ns: int
    end_ns: int


class BagWriter:
    """Writes one bag. Not thread safe; the disk is served by threads of the file below."""

    def __init__(
        self,
        directory: Path,
        connections: Sequence[Connection],
        *,
        custom_data: dict[str, str],
        sync_period_s: float = 0.5,
    ) -> None:
        """Create the directory and the file and write everything that stands before the messages.

        Args:
            directory: must not exist; its name is the name of the .mcap file in it.
            connections: all topics of the bag.
            custom_data: strings for metadata.yaml, also written at the start of the file, for recovery.
            sync_period_s: time between two fsync calls, s.

        Raises:
            OSError: when the directory or file cannot be created.
        """
        directory.mkdir(parents=True)
        self.directory = directory
        self.path = directory / f"{directory.name}.mcap"
        self._connections = tuple(connections)
        self._custom_data = dict(custom_data)
        self._file = WriteBehindFile(self.path, sync_period_s=sync_period_s)
        self._mcap = McapFile(self._file, library=f"robosteer_teleop {version('robosteer_teleop')}")
        self._mcap.add_metadata(CUSTOM_DATA_RECORD, self._custom_data)
        self._channels = self._register()

    def _register(self) -> dict[str, int]:
        schemas: dict[str, int] = {}
        channels: dict[str, int] = {}
        for connection in self._connections:
            if connection.type not in schemas:
                text = connection.definition.text.encode()
                schemas[connection.type] = self._mcap.add_schema(connection.type, connection.encoding, text)
            qos = {"offered_qos_profiles": dump_qos_v8(list(connection.qos))}
            schema = schemas[connection.type]
            channels[connection.topic] = self._mcap.add_channel(connection.topic, schema, encoding="cdr", metadata=qos)
        return channels

    @property
    def bytes_written(self) -> int:
        """Length of the file so far, without the open chunk."""
        return self._file.tell()

    def write(self, topic: str, log_ns: int, data: bytes) -> None:
        """Append a serialized message; its publish time is set to its log time.

        Args:
            topic: one of the connections.
            log_ns: receive time, ns.
            data: CDR with its encapsulation header.

        Raises:
            OSError: when an earlier write failed.
        """
        self._mcap.write(self._channels[topic], log_ns, log_ns, data)
        self.flush(log_ns)

    def flush(self, now_ns: int, *, max_age_ns: int = MAX_CHUNK_AGE_NS) -> None:
        """Hand the open chunk to the disk if its first message is older than allowed.

        Raises:
            OSError: when an earlier write failed.
        """
        start_ns = self._mcap.chunk_start_ns
        if start_ns is not None and now_ns - start_ns >= max_age_ns:
            self._mcap.close_chunk()
        self._file.check()

    def close(self) -> BagTotals:
        """Write the index and metadata.yaml, synchronise, close.

        Raises:
            OSError: when not everything reached the disk; what did stays recoverable.
        """
        try:
            self._mcap.close_chunk()
            totals = self._totals()
            information = self._information(totals)
            text = yaml.safe_dump(information, sort_keys=False, allow_unicode=True)
            self._mcap.add_metadata("rosbag2", {"serialized_metadata": text})
            self._mcap.finish()
        except OSError:
            self._file.abandon()
            raise
        self._file.close()
        document = yaml.safe_dump({"rosbag2_bagfile_information": information}, sort_keys=False, allow_unicode=True)
        write_durably(self.directory / METADATA_FILE, document)
        return totals

    def abandon(self) -> None:
        """Close the file as it is, after an error."""
        self._file.abandon()

    def _totals(self) -> BagTotals:
        counts = self._mcap.counts
        by_topic = {topic: counts[channel] for topic, channel in self._channels.items()}
        return BagTotals(by_topic, *self._mcap.time_range_ns)

    def _information(self, totals: BagTotals) -> dict[str, Any]:
        """Return the content of metadata.yaml, version 8."""
        count = sum(totals.counts.values())
        start = {"nanoseconds_since_epoch": totals.start_ns}
        duration = {"nanoseconds": totals.end_ns - totals.start_ns}
        file = {"path": self.path.name, "starting_time": start, "duration": duration, "message_count": count}
        return {
            "version": METADATA_VERSION,
            "storage_identifier": "mcap",
            "duration": dict(duration),
            "starting_time": dict(start),
            "message_count": count,
            "topics_with_message_count": [self._topic(c, totals.counts[c.topic]) for c in self._connections],
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": [self.path.name],
            "files": [file],
            "custom_data": self._custom_data or None,
            "ros_distro": os.environ.get("ROS_DISTRO", ""),
        }

    @staticmethod
    def _topic(connection: Connection, count: int) -> dict[str, Any]:
        return {
            "topic_metadata": {
                "name": connection.topic,
                "type": connection.type,
                "serialization_format": "cdr",
                "offered_qos_profiles": dump_qos_v8(list(connection.qos)),
                "type_description_hash": connection.definition.type_hash,
            },
            "message_count": count,
        }
