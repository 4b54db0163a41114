"""The executable `robosteer`: Ctrl-C or SIGTERM ends it without a traceback at any moment, while it is imported too."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import NoReturn

from robosteer_rig.interrupts import INTERRUPTED, TERMINATED, ends_at_once

_AGAIN_S = 0.02


def main() -> int:
    """Run `robosteer` with this process's arguments; the exit codes are those of `cli.main`."""
    sys.unraisablehook = _interrupt_again
    with ends_at_once():
        from robosteer_bringup import cli
    try:
        code = cli.main()
    except KeyboardInterrupt:  # Before or after the subcommand.
        code = INTERRUPTED
    # What is left is Python's own end: joining threads, handlers of libraries. Nobody waits for that to be told.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if code in (INTERRUPTED, TERMINATED):
        _leave(code)
    return code


def _leave(code: int) -> NoReturn:
    """End without Python's own end: a thread of XLA in the middle of a computation does not survive that."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # Closed, or nobody reads any more.
            stream.flush()
    if code == TERMINATED:  # By the signal itself: a service manager calls that clean, and a shell says the same code.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
    os._exit(code)  # Also for process 1 of a container, which no signal ends.


def _interrupt_again(lost: sys.UnraisableHookArgs, /) -> None:
    """Raise a Ctrl-C again that fell into a destructor or a garbage collector's callback, where Python drops it.

    JAX registers such a callback, and imports collect often. It comes from another thread and a little later, because
    here it would be dropped again.
    """
    if lost.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(lost)
        return
    main_thread = threading.main_thread().ident
    timer = threading.Timer(_AGAIN_S, signal.pthread_kill, (main_thread, signal.SIGINT))
    timer.daemon = True
    timer.start()
