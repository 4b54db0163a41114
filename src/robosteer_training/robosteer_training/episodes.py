"""Find recorded episodes and read what their recorder said about them (episode.json)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from robosteer_rig.bags import METADATA_FILE
from robosteer_rig.errors import RobosteerError
from robosteer_rig.fields import show
from robosteer_rig.rig import Rig, parse_rig

EPISODE_FILE = "episode.json"
EPISODE_SCHEMA = "robosteer.episode/1"
MAX_EPISODE_JSON_BYTES = 4 << 20
MAX_DEPTH = 4
STORAGE_SUFFIXES = (".mcap", ".db3")
# Directories of the recorder that hold no finished episodes.
UNFINISHED = ("partial", "trash")


@dataclasses.dataclass(frozen=True)
class EpisodeInfo:
    """One recorded episode.

    Attributes:
        path: its directory.
        bag_path: the rosbag2 directory, `path` itself or a directory in it.
        instruction: what was shown; None when nobody said.
        outcome: success, failure, ...; None when nobody said.
        rig_text: the rig file that it was recorded with, as YAML; None for a plain bag.
        from_ns: log time at which the demonstration begins, ns; what was recorded before is pre-roll. None: at once.
        until_ns: log time at which it ends, ns; None: with the bag.
    """

    path: Path
    bag_path: Path
    instruction: str | None
    outcome: str | None
    rig_text: str | None
    from_ns: int | None = None
    until_ns: int | None = None

    def rig(self) -> Rig | None:
        """The rig that it was recorded with.

        Raises:
            RobosteerError: when the recorded rig is not valid.
        """
        return None if self.rig_text is None else parse_rig(self.rig_text, source=f"{self.path}: recorded rig")


def discover_episodes(bag_dir: Path) -> list[Path]:
    """All episode directories under `bag_dir`, or `bag_dir` itself when it is one, in order of their paths.

    Raises:
        RobosteerError: when there is none.
    """
    if not bag_dir.is_dir():
        raise RobosteerError(f"bag directory {bag_dir}: found no such directory, expected recordings; check --bag")
    found = _walk(bag_dir, MAX_DEPTH)
    if not found:
        raise RobosteerError(
            f"bag directory {bag_dir}: found no episodes, expected directories with {METADATA_FILE}; "
            "record some with `robosteer record`"
        )
    return found


def _walk(directory: Path, depth: int) -> list[Path]:
    children = sorted(directory.iterdir())
    names = {child.name for child in children}
    is_bag = bool(names & {METADATA_FILE, EPISODE_FILE}) or any(n.endswith(STORAGE_SUFFIXES) for n in names)
    if is_bag:
        return [directory]
    if depth == 0:
        return []
    nested = [c for c in children if c.is_dir() and c.name not in UNFINISHED and not c.name.startswith(".")]
    return [episode for child in nested if not child.name.endswith(".partial") for episode in _walk(child, depth - 1)]


def read_episode(path: Path) -> EpisodeInfo:
    """Read an episode's label; a plain rosbag2 directory is an episode without one.

    Raises:
        RobosteerError: for a damaged episode.json.
    """
    content = _episode_json(path)
    from_ns, until_ns = _markers(path, content.get("markers", {}))
    recorded = content.get("rig")
    rig_text = recorded.get("yaml") if isinstance(recorded, dict) else None
    return EpisodeInfo(
        path=path,
        bag_path=_bag_of(path),
        instruction=_text(content.get("instruction")),
        outcome=_text(content.get("outcome")),
        rig_text=_text(rig_text),
        from_ns=from_ns,
        until_ns=until_ns,
    )


def _markers(path: Path, markers: object) -> tuple[int | None, int | None]:
    """Where the demonstration begins and ends, log times in ns."""
    found: list[Any] = [markers.get("start_ns"), markers.get("end_ns")] if isinstance(markers, dict) else [markers]
    if len(found) != 2 or any(isinstance(value, bool) or not isinstance(value, int | None) for value in found):
        raise RobosteerError(
            f"{path / EPISODE_FILE}: found markers {show(str(markers))}, expected start_ns and end_ns in ns; correct it"
        )
    return found[0], found[1]


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _bag_of(path: Path) -> Path:
    if (path / METADATA_FILE).exists():
        return path
    nested = [child for child in sorted(path.iterdir()) if (child / METADATA_FILE).exists()]
    return nested[0] if len(nested) == 1 else path


def _episode_json(path: Path) -> dict[str, Any]:
    file = path / EPISODE_FILE
    if not file.exists():
        return {}
    try:
        if file.stat().st_size > MAX_EPISODE_JSON_BYTES:
            raise ValueError(f"{file.stat().st_size} bytes")
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RobosteerError(f"{file}: found {show(str(error))}, expected schema {EPISODE_SCHEMA}") from None
    schema = content.get("schema") if isinstance(content, dict) else content
    if schema != EPISODE_SCHEMA:
        raise RobosteerError(f"{file}: found schema {show(schema)}, expected {EPISODE_SCHEMA}")
    return content
