"""Run a distribution's console script by name: `python -m ...run_entry_point <distribution> <script> [args]`."""

import signal
import sys

from robosteer_rig.interrupts import ends_at_once


def main() -> int:
    """Load the entry point and call it as its own script would; user errors are one line on stderr.

    Ctrl-C that the script does not handle itself ends this process by the signal, as a launcher expects of a process
    that it has asked to stop, and without a traceback.
    """
    package, script, *arguments = sys.argv[1:]
    sys.argv = [script, *arguments]
    try:
        with ends_at_once():
            from robosteer_bringup.launcher.resolve import console_scripts

            command = console_scripts(package)[script].load()
        return command() or 0
    except KeyboardInterrupt:
        sys.stdout.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
        raise
    except Exception as error:
        if not getattr(error, "user_error", False):
            raise
        print(f"{script}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
