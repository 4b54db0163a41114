"""Record in child processes and kill them with SIGKILL; argv: directory, number of writers.

Each writer keeps one short episode and then records until it dies. It reports every accepted message through a pipe,
which survives it. Prints, as JSON, per writer: its directory, messages accepted, and the log time of the last.

A message counts as accepted once the kernel has every byte that was handed to the disk's thread, so that the loss
does not depend on how busy the machine is: it is what the recorder holds back by design.
"""

import json
import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

from robosteer_teleop.bag_writer import BagWriter
from robosteer_teleop.episode_record import episode_json
from robosteer_teleop.store import EpisodeStore
from robosteer_teleop.survey import verify_file
from robosteer_teleop.topics import FLOAT64, Connection, definition

TOPICS = [Connection(name, FLOAT64, definition(FLOAT64)) for name in ("/fast", "/image")]
STEP_NS = 2_000_000
T0 = 1_700_000_000_000_000_000


def number(value: float, padding: int = 0) -> bytes:
    return b"\0\1\0\0" + struct.pack("<d", value) + bytes(padding)


def write(directory: Path, report: int) -> None:
    store = EpisodeStore(directory)
    episode, path = store.begin()
    writer = BagWriter(path, TOPICS, custom_data={"episode": str(episode), "instruction": "first"})
    for i in range(100):
        writer.write("/fast", T0 + i, number(i))
    store.commit(episode, episode_json(verify_file(writer.path, writer.close()), "success"))
    episode, path = store.begin()
    writer = BagWriter(path, TOPICS, custom_data={"episode": str(episode), "instruction": "second"})
    for i in range(10**9):
        log_ns = T0 + i * STEP_NS
        writer.write("/fast", log_ns, number(i))
        if i % 16 == 0:
            writer.write("/image", log_ns, number(i, padding=15_000))
        while writer.path.stat().st_size < writer.bytes_written:
            time.sleep(0.0005)
        os.write(report, struct.pack("<q", i))
        time.sleep(0.001)


AT_ONCE = 10


def fork(directory: Path) -> tuple[int, int, Path]:
    """Start a writer; returns its pid, the end of its report's pipe and its directory."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read_end)
            write(directory, write_end)
        finally:
            os._exit(1)
    os.close(write_end)
    return pid, read_end, directory


def kill(pid: int, read_end: int, directory: Path, delay_s: float) -> dict[str, object]:
    """Kill a writer at some moment and read how far it had come."""
    for _ in range(80):  # past the first chunk, so that there is something to recover
        os.read(read_end, 8)
    time.sleep(delay_s)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    data = b""
    while part := os.read(read_end, 65536):
        data += part
    os.close(read_end)
    last = struct.unpack("<q", data[-8:])[0] if data else 0
    return {"directory": str(directory), "last": last, "end_ns": T0 + last * STEP_NS}


def main() -> None:
    root, count = Path(sys.argv[1]), int(sys.argv[2])
    chance = random.Random(7)  # noqa: S311
    results = []
    for first in range(0, count, AT_ONCE):
        writers = [fork(root / f"writer{i}") for i in range(first, min(first + AT_ONCE, count))]
        results += [kill(*writer, chance.uniform(0.0, 0.3)) for writer in writers]
    print(json.dumps(results))


if __name__ == "__main__":
    main()
