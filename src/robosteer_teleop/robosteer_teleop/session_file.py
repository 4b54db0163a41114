"""session.json: what the episodes of a directory have in common, and whether another one belongs to them."""

from __future__ import annotations

import dataclasses
import json
import secrets
import time
from pathlib import Path

from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import Rig, parse_rig, recording_differences
from robosteer_teleop.write_behind import write_durably

SESSION_FILE = "session.json"
SCHEMA = "robosteer.session/1"


@dataclasses.dataclass(frozen=True)
class SessionFile:
    """One session.

    Attributes:
        session: its id.
        instruction: what is shown.
        rig: the rig file's text.
        created_ns: wall clock, ns.
        schema: of the file.
    """

    session: str
    instruction: str
    rig: str
    created_ns: int
    schema: str = SCHEMA

    @classmethod
    def new(cls, instruction: str, rig: Rig) -> SessionFile:
        """A session that begins now."""
        now_ns = time.time_ns()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now_ns // 10**9))
        return cls(f"{stamp}-{secrets.token_hex(2)}", instruction, rig.to_yaml(), now_ns)


def read_session(directory: Path) -> SessionFile | None:
    """The directory's session; None in a new one.

    Raises:
        RobosteerError: for a damaged file.
    """
    path = directory / SESSION_FILE
    if not path.exists():
        return None
    try:
        found = SessionFile(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RobosteerError(
            f"{path}: found an unreadable file ({error}), expected schema {SCHEMA}; move it away"
        ) from None
    if found.schema != SCHEMA:
        raise RobosteerError(f"{path}: found schema {found.schema!r}, expected {SCHEMA!r}; use another directory")
    return found


def write_session(directory: Path, session: SessionFile) -> None:
    """Write it so that a crash leaves the old or the new content."""
    write_durably(
        directory / SESSION_FILE, json.dumps(dataclasses.asdict(session), indent=2, ensure_ascii=False) + "\n"
    )


def why_not_resume(session: SessionFile, instruction: str, rig: Rig) -> str:
    """Why an episode does not belong to a session; "" when it does."""
    advice = "use another directory, or set the parameter allow_change for a new session in this one"
    if session.instruction != instruction:
        return f"task: found {instruction!r}, expected {session.instruction!r} as in this directory; {advice}"
    different = recording_differences(rig, parse_rig(session.rig, source=SESSION_FILE))
    return f"rig: {different[0]} as in this directory; {advice}" if different else ""
