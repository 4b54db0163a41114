"""Run one node or tool of a package (the syntax of ros2 run)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from robosteer_bringup.launcher.resolve import resolve_executable, with_ament_prefix

USAGE = """usage: robosteer run <package> <executable> [arguments]

Run an executable of a package; the arguments are passed on unchanged.
example: robosteer run robosteer_training steer --bag demos/"""


def main(argv: Sequence[str]) -> int:
    """Replace this process by the executable."""
    if argv and argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    if len(argv) < 2:
        print(USAGE, file=sys.stderr)
        return 2
    environment = with_ament_prefix(os.environ)
    command = [*resolve_executable(argv[0], argv[1], environment), *argv[2:]]
    os.execve(command[0], command, environment)  # noqa: S606
