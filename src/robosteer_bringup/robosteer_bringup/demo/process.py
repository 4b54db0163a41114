"""Running the demo's stages as child processes: logs kept, progress shown, Ctrl-C passed on and waited for."""

from __future__ import annotations

import os
import random
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from robosteer_rig.errors import RobosteerError

# Fast DDS derives its ports from the domain; above 101 they may collide with Linux's ephemeral range.
_MAX_DOMAIN_ID = 101
_STOP_PATIENCE_S = 20.0


def ros_environment(log_directory: Path) -> dict[str, str]:
    """Environment of the demo's ROS processes: a graph of their own, on this machine only.

    A `ROS_DOMAIN_ID` that the user has set is kept.
    """
    environment = dict(os.environ)
    environment.setdefault("ROS_DOMAIN_ID", str(random.SystemRandom().randint(1, _MAX_DOMAIN_ID)))
    environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    environment["ROS_LOG_DIR"] = str(log_directory)
    # The demo asks for nothing that a GPU would speed up, and a user's GPU may be busy.
    environment.setdefault("JAX_PLATFORMS", "cpu")
    # On a CPU, XLA's large temporary buffers cost a quarter of the time in page faults unless pages are huge.
    environment.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    return environment


def robosteer_command(*arguments: str) -> list[str]:
    """Command line of a `robosteer` subcommand in this environment."""
    return [sys.executable, "-m", "robosteer_bringup.cli", *arguments]


def run_stage(
    command: Sequence[str],
    log_path: Path,
    environment: dict[str, str],
    *,
    show: Callable[[str], str | None] | None = None,
) -> None:
    """Run one stage to its end.

    Args:
        command: argument list.
        log_path: gets every line of output when `show` is given; otherwise the stage owns the terminal.
        environment: of the child.
        show: maps an output line to what is printed of it, or None for nothing.

    Raises:
        RobosteerError: when the stage fails; names the log.
        KeyboardInterrupt: after the child has been stopped in order.
    """
    piped = subprocess.PIPE if show else None
    # Its own session: Ctrl-C reaches it once, from us, and not a second time from the terminal.
    child = subprocess.Popen(
        command,
        env=environment,
        stdout=piped,
        stderr=subprocess.STDOUT if show else None,
        start_new_session=show is not None,
        text=True,
    )
    reader = None
    if show and child.stdout:
        reader = threading.Thread(target=_copy_output, args=(child.stdout, log_path, show))
        reader.start()
    try:
        code = child.wait()
    except KeyboardInterrupt:
        _stop(child)
        raise
    finally:
        if reader:
            reader.join()
    if code != 0:
        where = f"; the log is {log_path}" if show else ""
        raise RobosteerError(f"{shlex.join(command[3:6])} …: found exit code {code}, expected 0{where}")


def _copy_output(stream: IO[str], log_path: Path, show: Callable[[str], str | None]) -> None:
    with log_path.open("a") as log:
        for line in stream:
            log.write(line)
            if (text := show(line.rstrip("\n"))) is not None:
                print(text, flush=True)


def _stop(child: subprocess.Popen[str]) -> None:
    """Ask, wait, insist."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if child.poll() is None:
            child.send_signal(number)
            try:
                child.wait(_STOP_PATIENCE_S)
            except subprocess.TimeoutExpired:
                continue
