"""Cut, split, merge and relabel recordings. Every result is a new, closed and verified bag; originals are only read."""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import shutil
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import Reader

from robosteer_rig.bags import require_metadata
from robosteer_rig.errors import RobosteerError
from robosteer_teleop.bag_writer import BagWriter
from robosteer_teleop.episode_record import EPISODE_FILE, Outcome, episode_json, read_episode_json, write_episode_json
from robosteer_teleop.mcap_stream import Damage, RawMessage
from robosteer_teleop.survey import BagSurvey, topic_survey, verify_file
from robosteer_teleop.topics import Connection, Definition, definition

if TYPE_CHECKING:
    from rosbags.interfaces import Connection as BagConnection

NS_PER_S = 1_000_000_000
MAX_PARTS = 1000
Message = tuple[int, str, bytes]  # log time in ns, topic, serialized message


@dataclasses.dataclass(frozen=True)
class Source:
    """A closed bag, MCAP or SQLite, open for reading.

    Attributes:
        path: its directory.
        reader: of rosbags.
        connections: its topics.
        custom_data: what the recorder wrote into it.
        start_ns: log time of the first message.
        end_ns: log time of the last one.
    """

    path: Path
    reader: Reader
    connections: dict[str, Connection]
    custom_data: dict[str, str]
    start_ns: int
    end_ns: int

    def messages(self) -> Iterator[Message]:
        """All messages in the order of their log times.

        Raises:
            RobosteerError: for a damaged bag.
        """
        with _readable(self.path):
            for connection, log_ns, data in self.reader.messages():
                yield log_ns, connection.topic, bytes(data)

    def latched(self) -> set[str]:
        """Topics whose last message counts also for who comes later."""
        kept = QosDurability.TRANSIENT_LOCAL
        return {topic for topic, c in self.connections.items() if any(qos.durability is kept for qos in c.qos)}


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except RobosteerError:
        raise
    except Exception as error:  # Parsers of foreign bytes raise struct.error, KeyError, sqlite3.Error, ...
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise RobosteerError(
            f"{path}: found a damaged bag ({reason}), expected a closed one; run `robosteer bag recover` on it first"
        ) from error


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a rosbag2 directory.

    Raises:
        RobosteerError: when it is missing, was never closed, is damaged or empty.
    """
    require_metadata(path)
    with contextlib.ExitStack() as stack:
        with _readable(path):
            reader = stack.enter_context(Reader(path))
            connections = {c.topic: _connection(c) for c in reader.connections}
            custom = getattr(reader.storage.metadata, "custom", None)
            texts = {str(k): str(v) for k, v in custom.items()} if isinstance(custom, dict) else {}
            if not reader.message_count:
                raise RobosteerError(f"{path}: found no messages, expected some")
            source = Source(path, reader, connections, texts, reader.start_time, reader.end_time - 1)
        yield source


def _connection(found: BagConnection) -> Connection:
    text, encoding = found.msgdef.data, "ros2idl" if found.msgdef.format.name == "IDL" else "ros2msg"
    if text:
        known = Definition(text, found.digest, has_header=False)
    else:  # Old SQLite bags hold no definitions.
        known, encoding = definition(found.msgtype), "ros2msg"
    return Connection(
        found.topic, found.msgtype, known, tuple(getattr(found.ext, "offered_qos_profiles", ())), encoding
    )


def survey_bag(path: Path) -> BagSurvey:
    """What a closed bag of either storage holds, found by reading all of it.

    Args:
        path: its directory.

    Raises:
        RobosteerError: when it is missing, damaged or empty.
    """
    with open_source(path) as source:
        survey = BagSurvey(path, custom_data=source.custom_data, damage=Damage(complete=True))
        for topic, connection in source.connections.items():
            survey.topics[topic] = topic_survey(connection.type, connection.definition.text)
        for log_ns, topic, data in source.messages():
            survey.topics[topic].add(RawMessage(0, log_ns, log_ns, data))
        survey.start_ns, survey.end_ns = source.start_ns, source.end_ns
    return survey


def cut_bag(path: Path, target: Path, start_s: float, end_s: float) -> BagSurvey:
    """Copy what was recorded between two times.

    The last message of a latched topic from before the start is repeated at the start.

    Args:
        path: the original.
        target: the new bag's directory.
        start_s: seconds after the first message.
        end_s: seconds after the first message; infinite for the rest.

    Raises:
        RobosteerError: for an empty piece, a damaged original or a target that exists.
    """
    if not 0 <= start_s < end_s:
        raise RobosteerError(f"cut: found {start_s:g} s to {end_s:g} s, expected 0 <= start < end")
    with open_source(path) as source:
        first = source.start_ns + round(start_s * NS_PER_S)
        last = source.end_ns if end_s == float("inf") else source.start_ns + round(end_s * NS_PER_S)
        return _write(source, target, _between(source, first, last), f"cut from {start_s:g} s to {end_s:g} s")


def _between(source: Source, first_ns: int, last_ns: int) -> Iterator[Message]:
    """Messages of [first, last], latched ones from before at the start."""
    latched, earlier, begun = source.latched(), {}, False
    for log_ns, topic, data in source.messages():
        if log_ns < first_ns:
            if topic in latched:
                earlier[topic] = data
            continue
        if not begun:
            begun = True
            yield from ((first_ns, name, kept) for name, kept in earlier.items())
        if log_ns > last_ns:
            return
        yield log_ns, topic, data


def split_bag(path: Path, target: Path, every_s: float) -> list[BagSurvey]:
    """Cut a recording into pieces of equal length: target/000000, target/000001, ...

    Raises:
        RobosteerError: as `cut_bag`, and for more than a thousand pieces.
    """
    with open_source(path) as source:
        length_s = (source.end_ns - source.start_ns) / NS_PER_S
    count = int(length_s // every_s) + 1 if every_s > 0 else 0
    if not 1 <= count <= MAX_PARTS:
        raise RobosteerError(f"split: found {every_s:g} s for {length_s:.1f} s, expected 1 to {MAX_PARTS} pieces")
    _require_new(target)
    target.mkdir(parents=True)
    # A piece ends one nanosecond before the next begins: every message is in exactly one.
    ends = [(i + 1) * every_s - 1e-9 for i in range(count - 1)] + [float("inf")]
    return [cut_bag(path, target / f"{i:06d}", i * every_s, end) for i, end in enumerate(ends)]


def merge_bags(paths: Sequence[Path], target: Path) -> BagSurvey:
    """Put recordings of the same time into one, in the order of their log times.

    For topics of several computers, or a recording in pieces; never for two demonstrations.

    Raises:
        RobosteerError: for fewer than two, for one topic with two types, and for recordings with a gap of more than a
            minute between them.
    """
    if len(paths) < 2:
        raise RobosteerError(f"merge: found {len(paths)} bag, expected at least two")
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(open_source(path)) for path in paths]
        in_time = sorted(sources, key=lambda source: source.start_ns)
        reached = in_time[0].end_ns
        for source in in_time[1:]:
            if source.start_ns - reached > 60 * NS_PER_S:
                raise RobosteerError(
                    f"{source.path}: found a start more than a minute after the others, expected one time"
                )
            reached = max(reached, source.end_ns)
        connections: dict[str, Connection] = {}
        for source in sources:
            for topic, connection in source.connections.items():
                known = connections.setdefault(topic, connection)
                if known.type != connection.type:
                    raise RobosteerError(
                        f"{source.path}: topic {topic}: found {connection.type}, expected {known.type} as in the others"
                    )
        base = sources[0]
        merged = dataclasses.replace(base, connections=connections)
        messages = heapq.merge(*(source.messages() for source in sources), key=itemgetter(0))
        return _write(merged, target, messages, f"merged from {', '.join(path.name for path in paths)}")


def relabel_bag(path: Path, target: Path, *, instruction: str | None, outcome: Outcome | None) -> BagSurvey:
    """Copy a recording with another instruction or outcome.

    Raises:
        RobosteerError: when neither is given, or for what `cut_bag` refuses.
    """
    if instruction is None and outcome is None:
        raise RobosteerError("relabel: found nothing to change, expected --instruction or --outcome")
    with open_source(path) as source:
        if instruction is not None:
            changed = {**source.custom_data, "instruction": instruction}
            source = dataclasses.replace(source, custom_data=changed)
        return _write(source, target, source.messages(), "relabelled", outcome)


def _require_new(target: Path) -> None:
    if target.exists():
        raise RobosteerError(f"{target}: found an existing directory, expected a new one; give another --out")


def _write(
    source: Source, target: Path, messages: Iterator[Message], note: str, outcome: Outcome | None = None
) -> BagSurvey:
    """Write a bag and, where the original is an episode, its episode.json."""
    _require_new(target)
    try:
        writer = BagWriter(target, list(source.connections.values()), custom_data=source.custom_data)
        try:
            count = _copy(messages, writer.write)
            totals = writer.close()
        except BaseException:
            writer.abandon()
            raise
        if not count:
            raise RobosteerError(f"{source.path}: found no message in that piece, expected some")
        survey = verify_file(writer.path, totals)
        if (source.path / EPISODE_FILE).exists():
            _label(source, target, survey, note, outcome)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return survey


def _copy(messages: Iterator[Message], write: Callable[[str, int, bytes], None]) -> int:
    count = 0
    for log_ns, topic, data in messages:
        write(topic, log_ns, data)
        count += 1
    return count


def _label(source: Source, target: Path, survey: BagSurvey, note: str, outcome: Outcome | None) -> None:
    before = read_episode_json(source.path)
    kept = outcome or before["outcome"]
    if kept not in get_args(Outcome):
        raise RobosteerError(f"{source.path}: found outcome {kept!r}, expected one of {', '.join(get_args(Outcome))}")
    quality = before.get("quality", {})
    notes = [*quality.get("notes", ()), f"{note} of {source.path.name}"]
    after = episode_json(survey, kept, problems=quality.get("problems", ()), notes=notes)
    instruction = source.custom_data.get("instruction") or before.get("instruction", "")
    rig = after["rig"] if after["rig"]["yaml"] else before.get("rig", after["rig"])
    write_episode_json(target, {**after, "instruction": instruction, "rig": rig})
