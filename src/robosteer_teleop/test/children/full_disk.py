"""Record until the operating system refuses to let the file grow; argv: directory, rig file, limit in bytes.

Prints the recorder's messages as JSON.
"""

import json
import resource
import struct
import sys
import time
from pathlib import Path

from robosteer_rig.rig import load_rig
from robosteer_teleop.answer import Now
from robosteer_teleop.episodes import Command, Limits, State
from robosteer_teleop.session import RecordingSession
from robosteer_teleop.store import EpisodeStore
from robosteer_teleop.streams import StreamWatch
from robosteer_teleop.topics import FLOAT64, RecordedTopic

TOPICS = [RecordedTopic("/number", FLOAT64)]


def record(session: RecordingSession, messages: int, size: int) -> list[str]:
    lines = []
    for i in range(messages):
        now = Now(10**18 + i * 10**6, i * 1e-3)
        session.receive("/number", now.wall_ns, b"\0\1\0\0" + struct.pack("<d", i) + bytes(size), now)
        lines += session.tick(now)
        if session.state is State.READY:
            break
        time.sleep(1e-4)
    return lines


def main() -> None:
    directory, limit = Path(sys.argv[1]), int(sys.argv[3])
    session = RecordingSession(
        EpisodeStore(directory),
        load_rig(sys.argv[2]),
        TOPICS,
        limits=Limits(1e9, 0),
        stream_watch=StreamWatch(TOPICS),
    )
    start = Now(10**18, 0.0)
    session.command(Command.START, start, instruction="first")
    record(session, 100, 8)
    session.command(Command.STOP, start)
    kept = session.command(Command.KEEP, start)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    session.command(Command.START, start, instruction="first")
    lines = record(session, 10_000, 1000)
    again = session.command(Command.STOP, start)
    print(json.dumps({"kept": kept.accepted, "lines": lines, "state": session.state, "again": again.reason}))


if __name__ == "__main__":
    main()
