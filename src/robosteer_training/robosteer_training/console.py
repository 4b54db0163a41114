"""Running a subcommand as an executable of its own (`ros2 run robosteer_training steer`)."""

from __future__ import annotations

import sys
from collections.abc import Callable

from robosteer_rig.interrupts import INTERRUPTED, TERMINATED, termination_interrupts


def run(name: str, main: Callable[[list[str]], int]) -> int:
    """Call `main` with the process's arguments; an error that the user can fix becomes one line."""
    with termination_interrupts() as termination:
        try:
            return main(sys.argv[1:])
        except KeyboardInterrupt:
            print(f"{name}: {'terminated' if termination.requested else 'interrupted'}", file=sys.stderr)
            return TERMINATED if termination.requested else INTERRUPTED
        except Exception as error:
            if not getattr(error, "user_error", False):
                raise
            print(f"{name}: {error}", file=sys.stderr)
            return 1
