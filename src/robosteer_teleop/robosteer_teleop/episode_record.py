"""episode.json: what an episode is, in one schema-versioned file beside its bag."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.provenance import source_commit
from robosteer_teleop.survey import BagSurvey, sha256
from robosteer_teleop.write_behind import write_durably

if TYPE_CHECKING:
    from robosteer_rig.rig import Rig

SCHEMA = "robosteer.episode/1"
EPISODE_FILE = "episode.json"
Outcome = Literal["success", "failure", "practice", "discarded", "recovered"]
_DISTRIBUTIONS = ("robosteer_teleop", "robosteer_rig", "mcap", "rosbags", "ros-rclpy", "ros-fastdds")


def software_versions() -> dict[str, str]:
    """Versions of what takes part in recording."""
    versions = {"python": platform.python_version(), "commit": source_commit()}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue  # rclpy from a ROS distribution is no Python distribution
    return versions


def custom_data(
    episode: int, instruction: str, rig: Rig, session: str = "", hardware: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Everything known at the start, as strings for the bag itself: a bag alone still tells what it is."""
    action = rig.action
    convention = {
        "convention": action.convention,
        "unit_rad_per_s": action.unit_rad_per_s,
        "rate_hz": action.rate_hz,
    }
    return {
        "schema": SCHEMA,
        "episode": str(episode),
        "instruction": instruction,
        "rig": rig.to_yaml(),
        "rig_digest": rig.digest(),
        "action_convention": json.dumps(convention),
        "software": json.dumps(software_versions()),
        "session": session,
        "hardware": json.dumps(hardware or {}),
    }


def episode_json(
    survey: BagSurvey,
    outcome: Outcome,
    *,
    problems: Sequence[dict[str, object]] = (),
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Compose the content of episode.json from a bag and its label.

    Args:
        survey: of the closed bag.
        outcome: the label.
        problems: findings of the stream watch.
        notes: anything else that happened, one phrase each.
    """
    data = survey.custom_data
    return {
        "schema": SCHEMA,
        "episode": int(data.get("episode", -1)),
        "session": data.get("session", ""),
        "instruction": data.get("instruction", ""),
        "outcome": outcome,
        "labelled_ns": time.time_ns(),
        "start_ns": survey.start_ns,
        "end_ns": survey.end_ns,
        "duration_s": round(survey.duration_s, 6),
        "rig": {"digest": data.get("rig_digest", ""), "yaml": data.get("rig", "")},
        "action_convention": json.loads(data.get("action_convention", "{}")),
        "topics": {
            name: {
                "type": topic.type,
                "count": topic.count,
                "rate_hz": round(survey.rate_hz(name), 3),
                "max_gap_s": round(topic.max_gap_s, 4),
            }
            for name, topic in survey.topics.items()
        },
        "quality": {"degraded": bool(problems), "problems": list(problems), "notes": list(notes)},
        "software": json.loads(data.get("software", "{}")),
        "hardware": json.loads(data.get("hardware", "{}")),
        "bag": {"file": survey.path.name, "sha256": sha256(survey.path), "bytes": survey.path.stat().st_size},
    }


def write_episode_json(directory: Path, content: dict[str, Any]) -> None:
    """Write episode.json so that a crash leaves the old or the new content."""
    write_durably(directory / EPISODE_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_episode_json(directory: Path) -> dict[str, Any]:
    """Read an episode.json.

    Raises:
        RobosteerError: when it is missing, damaged or of another schema.
    """
    path = directory / EPISODE_FILE
    if directory.is_file():
        raise RobosteerError(f"{directory}: found a file, expected an episode's directory; check the path")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RobosteerError(f"{directory}: found no {EPISODE_FILE}, expected an episode; check the path") from None
    except (OSError, ValueError) as error:
        raise RobosteerError(f"{path}: found an unreadable file ({error}), expected schema {SCHEMA}") from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise RobosteerError(f"{path}: found schema {schema!r}, expected {SCHEMA!r}; convert the file to this version")
    return content


def label_episode(directory: Path, outcome: Outcome) -> dict[str, Any]:
    """Change an episode's outcome afterwards and return the new content.

    Raises:
        RobosteerError: when the directory is no episode.
    """
    content = read_episode_json(directory)
    content["quality"]["notes"].append(f"relabelled from {content['outcome']} to {outcome}")
    content["outcome"], content["labelled_ns"] = outcome, time.time_ns()
    write_episode_json(directory, content)
    return content
