"""Running a subcommand as an executable of its own (`ros2 run robosteer_training steer`)."""

from __future__ import annotations

import sys
from collections.abc import Callable

INTERRUPTED = 130


def run(name: str, main: Callable[[list[str]], int]) -> int:
    """Call `main` with the process's arguments; an error that the user can fix becomes one line."""
    try:
        return main(sys.argv[1:])
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if not getattr(error, "user_error", False):
            raise
        print(f"{name}: {error}", file=sys.stderr)
        return 1
