"""MCAP with chunks that can be closed at any moment.

The record encodings are the `mcap` package's. Its writer, and that of `rosbags`, close a chunk only when 1 MiB is
full, which at a simulated cell's data rate is seconds of data in memory: too much to lose. Here a chunk also closes
by age, carries a CRC so that recovery can tell damaged from sound, and is never larger than asked for.
Specification: https://mcap.dev/spec.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from typing import Protocol

from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    MessageIndex,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)

MAGIC = b"\x89MCAP0\r\n"
MAX_CHUNK_BYTES = 2**20
_MESSAGE_HEADER = struct.Struct("<BQHIQQ")  # opcode, length, channel, sequence, log time, publish time
_MESSAGE_FIXED = 22  # bytes of a message's content before its data
_CHUNK_HEADER = struct.Struct("<BQQQQIIQ")  # opcode, length, start, end, size, crc, empty compression, data length


class Stream(Protocol):
    """What the file is written to."""

    def write(self, data: bytes, /) -> int:
        """Append."""
        ...

    def tell(self) -> int:
        """Offset of the next byte."""
        ...


@dataclasses.dataclass
class _OpenChunk:
    parts: list[bytes] = dataclasses.field(default_factory=list)
    size: int = 0
    start_ns: int = 2**63 - 1
    end_ns: int = 0
    index: dict[int, list[tuple[int, int]]] = dataclasses.field(default_factory=dict)


class McapFile:
    """Writer of one MCAP file, uncompressed (the images are JPEG already)."""

    def __init__(self, stream: Stream, *, library: str, max_chunk_bytes: int = MAX_CHUNK_BYTES) -> None:
        """Write the magic and the header.

        Args:
            stream: empty, append-only.
            library: name and version of the writing program.
            max_chunk_bytes: a chunk is closed before it would become larger (a single larger message excepted).
        """
        self._stream = stream
        self._max_chunk_bytes = max_chunk_bytes
        self._chunk = _OpenChunk()
        self._schemas: list[Schema] = []
        self._channels: list[Channel] = []
        self._chunk_indexes: list[ChunkIndex] = []
        self._metadata_indexes: list[MetadataIndex] = []
        self._counts: dict[int, int] = {}
        self._start_ns = 2**63 - 1
        self._end_ns = 0
        stream.write(MAGIC)
        self._append(Header(profile="ros2", library=library))

    @property
    def counts(self) -> dict[int, int]:
        """Channel id -> messages written."""
        return dict(self._counts)

    @property
    def time_range_ns(self) -> tuple[int, int]:
        """Log times of the first and last message; (0, 0) for none."""
        return (self._start_ns, self._end_ns) if any(self._counts.values()) else (0, 0)

    @property
    def chunk_start_ns(self) -> int | None:
        """Log time of the oldest message that is only in memory; None when there is none."""
        return self._chunk.start_ns if self._chunk.parts else None

    def add_schema(self, name: str, encoding: str, data: bytes) -> int:
        """Register a message definition and return its id."""
        self._schemas.append(Schema(id=len(self._schemas) + 1, name=name, encoding=encoding, data=data))
        self._append(self._schemas[-1])
        return self._schemas[-1].id

    def add_channel(self, topic: str, schema_id: int, *, encoding: str, metadata: dict[str, str]) -> int:
        """Register a topic and return its channel id."""
        channel = Channel(
            id=len(self._channels) + 1,
            topic=topic,
            message_encoding=encoding,
            metadata=metadata,
            schema_id=schema_id,
        )
        self._channels.append(channel)
        self._counts[channel.id] = 0
        self._append(channel)
        return channel.id

    def add_metadata(self, name: str, metadata: dict[str, str]) -> None:
        """Write a named set of strings at once, outside every chunk."""
        self.close_chunk()
        offset = self._stream.tell()
        length = self._append(Metadata(name=name, metadata=metadata))
        self._metadata_indexes.append(MetadataIndex(offset=offset, length=length, name=name))

    def write(self, channel_id: int, log_ns: int, publish_ns: int, data: bytes) -> None:
        """Add a message to the open chunk."""
        length = _MESSAGE_FIXED + len(data)
        chunk = self._chunk
        if chunk.parts and chunk.size + 9 + length > self._max_chunk_bytes:
            self.close_chunk()
            chunk = self._chunk
        self._counts[channel_id] += 1
        head = _MESSAGE_HEADER.pack(Opcode.MESSAGE, length, channel_id, self._counts[channel_id], log_ns, publish_ns)
        chunk.index.setdefault(channel_id, []).append((log_ns, chunk.size))
        chunk.parts += (head, data)
        chunk.size += 9 + length
        chunk.start_ns = min(chunk.start_ns, log_ns)
        chunk.end_ns = max(chunk.end_ns, log_ns)

    def close_chunk(self) -> None:
        """Give everything written so far to the stream."""
        chunk, self._chunk = self._chunk, _OpenChunk()
        if not chunk.parts:
            return
        self._start_ns = min(self._start_ns, chunk.start_ns)
        self._end_ns = max(self._end_ns, chunk.end_ns)
        data = b"".join(chunk.parts)
        head = _CHUNK_HEADER.pack(
            Opcode.CHUNK, 40 + len(data), chunk.start_ns, chunk.end_ns, len(data), zlib.crc32(data), 0, len(data)
        )
        indexes = RecordBuilder()
        offsets: dict[int, int] = {}
        start = self._stream.tell()
        chunk_length = len(head) + len(data)
        for channel_id, records in chunk.index.items():
            offsets[channel_id] = start + chunk_length + indexes.count
            MessageIndex(channel_id=channel_id, records=records).write(indexes)
        index_bytes = indexes.end()
        # One write: what a crash tears apart is at most this chunk.
        self._stream.write(b"".join((head, data, index_bytes)))
        self._chunk_indexes.append(
            ChunkIndex(
                chunk_length=chunk_length,
                chunk_start_offset=start,
                compression="",
                compressed_size=len(data),
                message_end_time=chunk.end_ns,
                message_index_length=len(index_bytes),
                message_index_offsets=offsets,
                message_start_time=chunk.start_ns,
                uncompressed_size=len(data),
            )
        )

    def finish(self) -> None:
        """Write the last chunk, the summary and the footer. The stream stays open."""
        self.close_chunk()
        self._append(DataEnd(data_section_crc=0))
        summary_start = self._stream.tell()
        builder = RecordBuilder()
        offsets: list[SummaryOffset] = []
        for opcode, records in self._summary_groups():
            group_start = builder.count
            for record in records:
                record.write(builder)
            if builder.count > group_start:
                offsets.append(SummaryOffset(opcode, summary_start + group_start, builder.count - group_start))
        offset_start = summary_start + builder.count
        for offset in offsets:
            offset.write(builder)
        summary = builder.end()
        footer = Footer(summary_start=summary_start, summary_offset_start=offset_start, summary_crc=0)
        crc = zlib.crc32(_encode(footer)[:-4], zlib.crc32(summary))  # The CRC covers the footer up to itself.
        footer.summary_crc = crc
        self._stream.write(summary + _encode(footer) + MAGIC)

    def _summary_groups(self) -> list[tuple[int, list[McapRecord]]]:
        start_ns, end_ns = self.time_range_ns
        statistics = Statistics(
            attachment_count=0,
            channel_count=len(self._channels),
            channel_message_counts=self._counts,
            chunk_count=len(self._chunk_indexes),
            message_count=sum(self._counts.values()),
            metadata_count=len(self._metadata_indexes),
            message_start_time=start_ns,
            message_end_time=end_ns,
            schema_count=len(self._schemas),
        )
        return [
            (Opcode.SCHEMA, [*self._schemas]),
            (Opcode.CHANNEL, [*self._channels]),
            (Opcode.STATISTICS, [statistics]),
            (Opcode.CHUNK_INDEX, [*self._chunk_indexes]),
            (Opcode.METADATA_INDEX, [*self._metadata_indexes]),
        ]

    def _append(self, record: McapRecord) -> int:
        data = _encode(record)
        self._stream.write(data)
        return len(data)


def _encode(record: McapRecord) -> bytes:
    builder = RecordBuilder()
    record.write(builder)
    return builder.end()
