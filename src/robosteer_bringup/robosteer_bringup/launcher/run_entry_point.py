"""Run a distribution's console script by name: `python -m ...run_entry_point <distribution> <script> [args]`."""

import sys

from robosteer_bringup.launcher.resolve import console_scripts


def main() -> int:
    """Load the entry point and call it as its own script would; user errors are one line on stderr."""
    package, script, *arguments = sys.argv[1:]
    sys.argv = [script, *arguments]
    try:
        return console_scripts(package)[script].load()() or 0
    except Exception as error:
        if not getattr(error, "user_error", False):
            raise
        print(f"{script}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
