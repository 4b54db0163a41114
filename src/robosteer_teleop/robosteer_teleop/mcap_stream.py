"""Reading an MCAP file from its beginning, as far as it is sound.

Indexed readers refuse a file without footer, which is what a crash leaves. This one needs no index: it walks the
records, checks each chunk's CRC and stops where the file was torn. Of a torn chunk it still returns the whole
messages.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import zstandard
from lz4 import frame as lz4_frame
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, Metadata, Schema

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.mcap_file import MAGIC

_RECORD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_CHUNK_FIXED = 40  # bytes before the data of an uncompressed chunk
_MAX_RECORD_BYTES = 2**32


@dataclasses.dataclass(frozen=True)
class RawMessage:
    """One serialized message.

    Attributes:
        channel_id: as in the file.
        log_ns: receive time, ns.
        publish_ns: publish time, ns.
        data: CDR with its encapsulation header.
    """

    channel_id: int
    log_ns: int
    publish_ns: int
    data: bytes


Record = Schema | Channel | Metadata | RawMessage


@dataclasses.dataclass
class Damage:
    """What was not readable.

    Attributes:
        complete: the file ends with its footer, as written by an orderly close.
        bad_chunks: whole chunks left out because their CRC or compression did not match.
        lost_bytes: length of the unreadable tail.
    """

    complete: bool = False
    bad_chunks: int = 0
    lost_bytes: int = 0

    def __str__(self) -> str:
        """One phrase for a report."""
        if self.complete and not self.bad_chunks:
            return "complete"
        parts = [] if self.complete else [f"not closed, {self.lost_bytes} bytes of the tail unreadable"]
        if self.bad_chunks:
            parts.append(f"{self.bad_chunks} damaged chunks left out")
        return "; ".join(parts)


def read_sound(path: Path, damage: Damage) -> Iterator[Record]:
    """Yield schemas, channels, metadata and messages in file order, as far as the file is sound.

    Args:
        path: an MCAP file.
        damage: filled in; final once the iterator is exhausted.

    Raises:
        RobosteerError: when the file is not MCAP at all.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(len(MAGIC))
        if magic != MAGIC:
            raise RobosteerError(f"{path}: found {magic!r} at the start, expected an MCAP file; check the path")
        while True:
            start = file.tell()
            head = file.read(_RECORD.size)
            if len(head) < _RECORD.size:
                break
            opcode, length = _RECORD.unpack(head)
            if opcode == Opcode.FOOTER:
                damage.complete = True
                return
            if not 0 < opcode <= 0x0F or length > _MAX_RECORD_BYTES:
                break
            if start + _RECORD.size + length > size:
                if opcode == Opcode.CHUNK:
                    start += yield from _torn_chunk(file)
                break
            if opcode == Opcode.CHUNK:
                yield from _chunk(file.read(length), damage)
            elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.METADATA, Opcode.MESSAGE):
                yield _record(opcode, file.read(length))
            else:
                file.seek(length, 1)
        damage.lost_bytes = size - start


def _record(opcode: int, content: bytes) -> Record:
    if opcode == Opcode.MESSAGE:
        channel_id, _, log_ns, publish_ns = _MESSAGE.unpack_from(content)
        return RawMessage(channel_id, log_ns, publish_ns, content[_MESSAGE.size :])
    stream = ReadDataStream(BytesIO(content))
    if opcode == Opcode.SCHEMA:
        return Schema.read(stream)
    if opcode == Opcode.CHANNEL:
        return Channel.read(stream)
    return Metadata.read(stream)


def _chunk(content: bytes, damage: Damage) -> Iterator[Record]:
    chunk = Chunk.read(ReadDataStream(BytesIO(content)))
    try:
        data = _decompressed(chunk)
    except (zstandard.ZstdError, RuntimeError, EOFError, ValueError):
        damage.bad_chunks += 1  # counted and reported: the rest of the file may still be sound
        return
    if chunk.uncompressed_crc and zlib.crc32(data) != chunk.uncompressed_crc:
        damage.bad_chunks += 1
        return
    yield from (record for record, _ in _inner_records(data))


def _decompressed(chunk: Chunk) -> bytes:
    if chunk.compression == "":
        return chunk.data
    if chunk.compression == "zstd":
        return zstandard.ZstdDecompressor().decompress(chunk.data, chunk.uncompressed_size)
    if chunk.compression == "lz4":
        return lz4_frame.decompress(chunk.data)
    raise ValueError(f"unknown compression {chunk.compression!r}")


def _torn_chunk(file: BinaryIO) -> Iterator[Record]:
    """Yield the whole messages of an uncompressed chunk whose end is missing; return the bytes they took."""
    content = file.read()
    if len(content) < _CHUNK_FIXED or content[28:32] != b"\0\0\0\0":  # length of the compression's name
        return 0
    end = 0
    for record, end in _inner_records(content[_CHUNK_FIXED:]):  # noqa: B007
        yield record
    return _RECORD.size + _CHUNK_FIXED + end if end else 0


def _inner_records(data: bytes) -> Iterator[tuple[Record, int]]:
    """Yield whole records of a chunk's data and the offset behind each."""
    offset = 0
    while offset + _RECORD.size <= len(data):
        opcode, length = _RECORD.unpack_from(data, offset)
        end = offset + _RECORD.size + length
        if end > len(data) or not 0 < opcode <= 0x0F:
            return
        if opcode in (Opcode.SCHEMA, Opcode.CHANNEL) or (opcode == Opcode.MESSAGE and length >= _MESSAGE.size):
            yield _record(opcode, data[offset + _RECORD.size : end]), end
        offset = end
