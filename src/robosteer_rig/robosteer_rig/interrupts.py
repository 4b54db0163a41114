"""The end of a program from outside: Ctrl-C while it is only being put together, and SIGTERM as another Ctrl-C."""

from __future__ import annotations

import dataclasses
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, as of a shell."""
TERMINATED = 128 + signal.SIGTERM
"""Exit code after SIGTERM, as of a shell."""


@contextmanager
def ends_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process by the signal itself, without a traceback, inside this block.

    For imports: nothing has begun that could be left half done, and a KeyboardInterrupt raised in the middle of an
    extension module comes out as another error. A handler that somebody else has set, and an ignored signal, stay.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@dataclasses.dataclass
class Termination:
    """What is known of an end that was asked for.

    Attributes:
        requested: whether SIGTERM came.
    """

    requested: bool = False


@contextmanager
def termination_interrupts() -> Iterator[Termination]:
    """Let SIGTERM (a cluster's preemption, `kill`, a service that is stopped) do what Ctrl-C does inside this block.

    It goes to whoever handles Ctrl-C at that moment, with its own number. Only the first one counts: `timeout` sends
    two, and the second must not cut short what the first one began; who cannot wait has SIGKILL. Where somebody else
    handles or ignores SIGTERM, and outside the main thread, nothing changes; a handler that is set inside the block
    stays in force (launchers and nodes have their own).
    """
    termination = Termination()
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield termination
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if termination.requested:
            return
        termination.requested = True
        interrupt = signal.getsignal(signal.SIGINT)
        if interrupt is signal.SIG_DFL:  # Inside `ends_at_once`.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
        elif callable(interrupt):
            interrupt(number, frame)
        else:  # Ignored, as in the background of a script: that says nothing about SIGTERM.
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, handle)
    try:
        yield termination
    finally:
        if signal.getsignal(signal.SIGTERM) is handle:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
