"""What the recorder says about itself: the part of its state topic about streams, and lines about failures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.answer import STATE_SCHEMA
from robosteer_teleop.store import episode_name
from robosteer_teleop.streams import Problem, StreamWatch
from robosteer_teleop.take import Take
from robosteer_teleop.topics import RecordedTopic


def describe(
    stream_watch: StreamWatch, topics: Iterable[RecordedTopic], problems: Sequence[Problem], now_s: float
) -> dict[str, Any]:
    """The streams, live and over the episode.

    Args:
        stream_watch: counts them.
        topics: what is recorded.
        problems: of the running or reviewed episode.
        now_s: monotonic time, s.
    """
    live = stream_watch.live_problems(now_s)
    counts = stream_watch.counts()
    return {
        "schema": STATE_SCHEMA,
        "ready": not live,
        "degraded": bool(problems),
        "problems": [str(problem) for problem in [*live, *problems]],
        "topics": {
            topic.name: {"count": counts[topic.name], "rate_hz": round(stream_watch.rate_hz(topic.name), 1)}
            for topic in topics
        },
    }


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
