"""What the user sees: prefixed lines on the screen, and everything in a log file."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TextIO


class LineSplitter:
    """Cuts a byte stream into lines; the tail without a newline comes out at the end."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines completed by `data`, without their newlines."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line.decode(errors="replace").removesuffix("\r") for line in lines]

    def finish(self) -> list[str]:
        """Return the unfinished last line, if there is one."""
        rest, self._rest = self._rest, b""
        return [rest.decode(errors="replace")] if rest else []


def log_directory(environment: Mapping[str, str], now: datetime) -> Path:
    """Return the directory of one launch's log, by ROS's rules (ROS_LOG_DIR, else ROS_HOME/log, else ~/.ros/log)."""
    home = environment.get("ROS_HOME") or str(Path.home() / ".ros")
    base = Path(environment.get("ROS_LOG_DIR") or Path(home) / "log")
    return base / f"{now:%Y-%m-%d-%H-%M-%S-%f}-{socket.gethostname()}-{os.getpid()}"


class Output:
    """Prints and logs the lines of a launch.

    Attributes:
        screen: Where the user looks.
        log_file: Where every line goes, those of output='log' too; None keeps no log.
        on_closed: Called, perhaps repeatedly, when the screen's reader is gone (`robosteer record | head`).
    """

    def __init__(self, screen: TextIO | None = None, log_file: TextIO | None = None) -> None:
        self.screen = sys.stdout if screen is None else screen
        self.log_file = log_file
        self.on_closed: Callable[[], None] = lambda: None

    def process_line(self, name: str, line: str, *, visible: bool) -> None:
        """Take one line that a process wrote."""
        self._write(f"[{name}] {line}", visible)

    def message(self, level: str, name: str, text: str) -> None:
        """Say something about the launch itself; `level` is INFO, WARNING or ERROR."""
        self._write(f"[{level}] [{name}]: {text}", True)

    def _write(self, line: str, visible: bool) -> None:
        if self.log_file is not None:
            print(f"{datetime.now().timestamp():.6f} {line}", file=self.log_file, flush=True)
        if not visible:
            return
        try:
            print(line, file=self.screen, flush=True)
        except BrokenPipeError:
            self.on_closed()
