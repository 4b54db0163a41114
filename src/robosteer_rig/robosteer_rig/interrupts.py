"""Ctrl-C while a program is only being put together."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


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
