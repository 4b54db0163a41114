"""What a bag holds, found by reading all of it: counts, rates, gaps, damage."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from mcap.exceptions import McapError
from mcap.reader import make_reader
from mcap.records import Channel, Metadata, Schema

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.bag_writer import CUSTOM_DATA_RECORD, BagTotals
from robosteer_teleop.mcap_stream import Damage, RawMessage, read_sound
from robosteer_teleop.streams import header_stamp_ns


@dataclasses.dataclass
class TopicSurvey:
    """One topic of a bag.

    Attributes:
        type: message type.
        count: messages.
        max_gap_s: longest time between two messages, by their own stamps where they have some, s.
    """

    type: str
    count: int = 0
    max_gap_s: float = 0.0
    _has_header: bool = False
    _last_ns: int = 0

    def add(self, message: RawMessage) -> None:
        """Count a message."""
        time_ns = (header_stamp_ns(message.data) if self._has_header else None) or message.log_ns
        if self.count:
            self.max_gap_s = max(self.max_gap_s, (time_ns - self._last_ns) * 1e-9)
        self.count += 1
        self._last_ns = time_ns


@dataclasses.dataclass
class BagSurvey:
    """A whole bag.

    Attributes:
        path: the MCAP file.
        topics: by name, also those without messages.
        start_ns: smallest log time, 0 without messages.
        end_ns: largest log time.
        custom_data: what the recorder wrote at the start.
        damage: what was unreadable.
    """

    path: Path
    topics: dict[str, TopicSurvey] = dataclasses.field(default_factory=dict)
    start_ns: int = 0
    end_ns: int = 0
    custom_data: dict[str, str] = dataclasses.field(default_factory=dict)
    damage: Damage = dataclasses.field(default_factory=Damage)

    @property
    def count(self) -> int:
        """Messages of all topics."""
        return sum(topic.count for topic in self.topics.values())

    @property
    def duration_s(self) -> float:
        """Time from the first to the last message, s."""
        return (self.end_ns - self.start_ns) * 1e-9

    def rate_hz(self, topic: str) -> float:
        """Messages per second of the bag's duration, 0 for a bag without duration."""
        return self.topics[topic].count / self.duration_s if self.duration_s > 0 else 0.0


def survey_file(path: Path) -> BagSurvey:
    """Read an MCAP file from its beginning, complete or not.

    Raises:
        RobosteerError: when the file is not MCAP.
    """
    survey = BagSurvey(path)
    schemas: dict[int, Schema] = {}
    channels: dict[int, TopicSurvey] = {}
    for record in read_sound(path, survey.damage):
        if isinstance(record, RawMessage):
            if record.channel_id not in channels:
                continue  # its channel stood in a damaged chunk
            channels[record.channel_id].add(record)
            first = survey.start_ns == 0 or record.log_ns < survey.start_ns
            survey.start_ns = record.log_ns if first else survey.start_ns
            survey.end_ns = max(survey.end_ns, record.log_ns)
        elif isinstance(record, Schema):
            schemas[record.id] = record
        elif isinstance(record, Channel) and record.id not in channels:
            channels[record.id] = _topic(survey, record, schemas.get(record.schema_id))
        elif isinstance(record, Metadata) and record.name == CUSTOM_DATA_RECORD:
            survey.custom_data = record.metadata
    return survey


def _topic(survey: BagSurvey, channel: Channel, schema: Schema | None) -> TopicSurvey:
    name, text = (schema.name, schema.data.decode(errors="replace")) if schema is not None else ("", "")
    return survey.topics.setdefault(channel.topic, topic_survey(name, text))


def topic_survey(message_type: str, definition: str) -> TopicSurvey:
    """A topic without messages; its definition tells whether they begin with a stamp."""
    has_header = definition.lstrip().startswith(("std_msgs/Header ", "std_msgs/msg/Header "))
    return TopicSurvey(message_type, _has_header=has_header)


def verify_file(path: Path, totals: BagTotals) -> BagSurvey:
    """Reopen a closed bag and compare it with what was written.

    Raises:
        RobosteerError: when the index, a chunk or a count is not as written.
    """
    survey = survey_file(path)
    found = {name: topic.count for name, topic in survey.topics.items()}
    if not survey.damage.complete or survey.damage.bad_chunks:
        raise RobosteerError(f"{path}: found {survey.damage}, expected a closed bag; check the disk")
    if found != totals.counts or (survey.start_ns, survey.end_ns) != (totals.start_ns, totals.end_ns):
        raise RobosteerError(f"{path}: found {found} on disk, expected {totals.counts}; check the disk")
    if indexed_count(path) != survey.count:
        raise RobosteerError(f"{path}: found an index of {indexed_count(path)} messages, expected {survey.count}")
    return survey


def indexed_count(path: Path) -> int | None:
    """Messages by the file's own index; None when it has none."""
    try:
        with path.open("rb") as file:
            summary = make_reader(file).get_summary()
    except (McapError, OSError):
        return None
    return summary.statistics.message_count if summary is not None and summary.statistics is not None else None


def sha256(path: Path) -> str:
    """Hash a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
