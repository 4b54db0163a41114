"""What the recorder says about itself: the part of its state topic about streams, and lines about failures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.answer import STATE_SCHEMA
from robosteer_teleop.episodes import Limits
from robosteer_teleop.store import episode_name
from robosteer_teleop.streams import Problem, StreamWatch
from robosteer_teleop.take import Take
from robosteer_teleop.topics import RecordedTopic


def describe(
    stream_watch: StreamWatch,
    topics: Iterable[RecordedTopic],
    problems: Sequence[Problem],
    now_s: float,
    free_bytes: int,
    limits: Limits,
) -> dict[str, Any]:
    """The streams, live and over the episode, and how long the disk takes them.

    Args:
        stream_watch: counts them.
        topics: what is recorded.
        problems: of the running or reviewed episode.
        now_s: monotonic time, s.
        free_bytes: on the disk.
        limits: what has to stay free.
    """
    live = stream_watch.live_problems(now_s)
    counts = stream_watch.counts()
    return {
        "schema": STATE_SCHEMA,
        "ready": not live,
        "degraded": bool(problems),
        "problems": [str(problem) for problem in [*live, *problems]],
        "warnings": [str(problem) for problem in stream_watch.live_warnings(now_s)],
        "free_gib": round(free_bytes / 2**30, 2),
        "disk_minutes": disk_minutes(free_bytes - limits.min_free_bytes, stream_watch.bytes_per_s()),
        "topics": {
            topic.name: {"count": counts[topic.name], "rate_hz": round(stream_watch.rate_hz(topic.name), 1)}
            for topic in topics
        },
    }


def disk_minutes(room_bytes: int, bytes_per_s: float) -> float | None:
    """How long one can record into this room, min, to 0.1; None while nothing arrives."""
    return round(max(room_bytes, 0) / bytes_per_s / 60.0, 1) if bytes_per_s > 0.0 else None


def failure_line(take: Take | None, error: OSError | RobosteerError) -> str:
    """One line about what could not be written, and what becomes of the episode."""
    found = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if take is None:
        return f"recorder: found {found}, expected a writable disk; free some space and start again"
    name = f"episode {episode_name(take.episode)}: found {found}, expected to write it"
    if take.survey is not None:
        return f"{name}; it is still in review: free some space and repeat"
    return (
        f"{name}; what was written stays in {take.directory} and is recovered when the recorder starts again; "
        "free some space"
    )
