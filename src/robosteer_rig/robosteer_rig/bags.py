"""Read rosbag2 directories (MCAP and SQLite) with errors that name the bag, and without trusting what they declare.

Only the standard message types that a rig can name are decoded, with definitions that ship with `rosbags`:
definitions embedded in a bag are never compiled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from robosteer_rig.errors import RobosteerError
from robosteer_rig.fields import show

if TYPE_CHECKING:
    from rosbags.interfaces import Connection
    from rosbags.rosbag2 import Reader
    from rosbags.typesys.store import Typestore

METADATA_FILE = "metadata.yaml"
MAX_METADATA_BYTES = 16 << 20
MAX_CHUNK_BYTES = 256 << 20  # Writers use 1 ... 4 MiB; one chunk is held in memory while it is read.
_HASH_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class TopicSummary:
    """One topic of a bag.

    Attributes:
        type: message type.
        count: messages that the bag's index promises.
        qos: what its publishers offered, as ("reliable" or "best_effort", "volatile" or "transient_local").
    """

    type: str
    count: int
    qos: tuple[tuple[str, str], ...] = ()


@functools.cache
def _typestore() -> Typestore:
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_KILTED)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file provokes into one line that names the bag."""
    try:
        yield
    except RobosteerError:
        raise
    except Exception as error:  # Parsers of foreign bytes raise struct.error, KeyError, TypeError, sqlite3.Error, ...
        absurd = isinstance(error, (MemoryError, OverflowError))
        reason = "a length beyond any file" if absurd else show(str(error) or type(error).__name__)
        raise RobosteerError(
            f"{path}: found a damaged bag ({reason}), expected a readable rosbag2 recording; "
            "record the episode again or recover the file"
        ) from error


class BagReader:
    """One rosbag2 directory, open for reading; use it as a context manager.

    Attributes:
        path: the directory with metadata.yaml.
        topics: topic name -> summary.
        custom_data: strings that the recorder left in the metadata.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.topics: dict[str, TopicSummary] = {}
        self.custom_data: dict[str, str] = {}
        self._reader: Reader | None = None

    def __enter__(self) -> BagReader:
        """Open the bag.

        Raises:
            RobosteerError: for a missing, incomplete or damaged bag.
        """
        from rosbags.rosbag2 import Reader

        require_metadata(self.path)
        with _reading(self.path):
            reader = Reader(self.path)
            reader.open()
            self._reader = reader
        try:
            with _reading(self.path):
                self._describe(reader)
                _check_chunks(reader, self.path)
        except RobosteerError:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _describe(self, reader: Reader) -> None:
        for connection in reader.connections:
            previous = self.topics.get(connection.topic)
            if previous is not None and previous.type != connection.msgtype:
                raise RobosteerError(
                    f"{self.path}: topic {connection.topic}: found types {previous.type} and {connection.msgtype}, "
                    "expected one"
                )
            count = connection.msgcount + (previous.count if previous else 0)
            qos = (previous.qos if previous else ()) + _offered(connection)
            self.topics[connection.topic] = TopicSummary(connection.msgtype, count, tuple(dict.fromkeys(qos)))
        custom = getattr(reader.storage.metadata, "custom", None)
        if isinstance(custom, dict):
            self.custom_data = {str(key): str(value) for key, value in custom.items()}

    def require(self, wanted: dict[str, tuple[str, str]]) -> None:
        """Check that topics are present with the right type and at least one message.

        Args:
            wanted: stream name -> (topic, message type).

        Raises:
            RobosteerError: naming the bag, the topic, the found and the wanted.
        """
        for stream, (topic, message_type) in wanted.items():
            where = f"{self.path}: topic {topic} ({stream})"
            if topic not in self.topics:
                present = ", ".join(sorted(self.topics)[:6]) or "no topics"
                raise RobosteerError(
                    f"{where}: found no such topic, expected {message_type}; the bag has {present}; "
                    "correct the topic in the rig file or record it"
                )
            found = self.topics[topic]
            if found.type != message_type:
                raise RobosteerError(f"{where}: found type {found.type}, expected {message_type}; correct the rig file")
            if not found.count:
                raise RobosteerError(f"{where}: found 0 messages, expected some; check that the device was on")

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, Any]]:
        """Messages in the order of their log time.

        Args:
            topics: names of the topics to decode.

        Yields:
            Topic, log time in ns, decoded message.

        Raises:
            RobosteerError: for damaged data, and at the end when fewer messages came than the index promises.
        """
        if self._reader is None:
            raise ValueError("the bag is not open")
        connections = [c for c in self._reader.connections if c.topic in topics]
        counts = dict.fromkeys(topics, 0)
        raw = self._reader.messages(connections=connections)
        while True:
            with _reading(self.path):
                item = next(raw, None) if connections else None
                if item is None:
                    break
                connection, log_ns, data = item
                message = self._decode(connection, data)
            counts[connection.topic] += 1
            yield connection.topic, log_ns, message
        for topic, count in counts.items():
            promised = self.topics[topic].count if topic in self.topics else 0
            if count != promised:
                raise RobosteerError(
                    f"{self.path}: topic {topic}: found {count} messages, expected {promised}; the recording is "
                    "incomplete, record the episode again"
                )

    def _decode(self, connection: Connection, data: bytes) -> Any:
        try:
            return _typestore().deserialize_cdr(data, connection.msgtype)
        except Exception as error:
            raise RobosteerError(
                f"{self.path}: topic {connection.topic}: found a message that is no {connection.msgtype} "
                f"({show(str(error))}), expected a whole one; record the episode again"
            ) from error


def _offered(connection: Connection) -> tuple[tuple[str, str], ...]:
    profiles = getattr(connection.ext, "offered_qos_profiles", ())
    return tuple((qos.reliability.name.lower(), qos.durability.name.lower()) for qos in profiles)


def require_metadata(path: Path) -> None:
    """Check that a directory has the metadata file that every closed bag has.

    Raises:
        RobosteerError: when it is missing, as after a crash of the recorder, or absurdly large.
    """
    metadata = path / METADATA_FILE
    if not path.is_dir():
        found = "a file" if path.exists() else "no such directory"
        raise RobosteerError(f"{path}: found {found}, expected the directory of a rosbag2 recording; check the path")
    if not metadata.is_file():
        raise RobosteerError(
            f"{path}: found no {METADATA_FILE}, expected a closed rosbag2 recording; check the path, or, if the "
            "recording was interrupted, run `robosteer bag recover` on it"
        )
    if metadata.stat().st_size > MAX_METADATA_BYTES:
        raise RobosteerError(f"{metadata}: found more than {MAX_METADATA_BYTES >> 20} MiB, expected a metadata file")


def _check_chunks(reader: Reader, path: Path) -> None:
    """Refuse chunks that would unpack to an absurd size, before anything is unpacked."""
    from rosbags.rosbag2.storage_mcap import McapReader

    for storage in getattr(reader.storage, "storages", ()):
        if not isinstance(storage, McapReader):
            continue
        for chunk in storage.chunks:
            sizes = [chunk.uncompressed_size]
            if chunk.compression == "zstd":
                sizes.append(_zstd_size(storage.path, chunk.chunk_start_offset + 9 + 40 + len(chunk.compression)))
            if max(sizes) > MAX_CHUNK_BYTES:
                raise RobosteerError(
                    f"{path}: found a chunk of {max(sizes)} bytes, expected at most {MAX_CHUNK_BYTES >> 20} MiB"
                )


def _zstd_size(path: Any, offset: int) -> int:
    """The size that a zstd frame declares for its content; 0 when it declares none."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    with path.open("rb") as file:
        file.seek(offset)
        return zstd.get_frame_info(file.read(32)).decompressed_size or 0


def bag_files(path: Path) -> list[Path]:
    """All regular files of a bag, sorted by name."""
    return sorted(p for p in path.iterdir() if p.is_file() and not p.is_symlink())


def bag_digest(path: Path) -> str:
    """Sha256 over names and contents of a bag's metadata and storage files."""
    total = hashlib.sha256()
    for file in bag_files(path):
        if file.suffix not in (".mcap", ".db3", ".zstd", ".yaml"):
            continue
        part = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(_HASH_BLOCK):
                part.update(block)
        total.update(f"{file.name}\0{part.hexdigest()}\n".encode())
    return total.hexdigest()
