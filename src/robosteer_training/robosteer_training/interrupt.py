"""Ctrl-C and SIGTERM that let the work reach a safe place first.

(`robosteer_rig.interrupts.termination_interrupts` hands SIGTERM to whoever handles Ctrl-C.)
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from robosteer_rig.interrupts import TERMINATED

_Result = TypeVar("_Result")

_WORKER_PATIENCE_S = 5


class Stopped(KeyboardInterrupt):
    """A signal in the middle of the work, after the state was saved: nothing is lost, the work can go on.

    Attributes:
        signal: its number.
    """

    def __init__(self, where: str, number: int) -> None:
        super().__init__(where)
        self.signal = number


class Interrupt:
    """Whether someone asked to stop.

    Attributes:
        signal: the last signal that did; 0 for none.
    """

    def __init__(self) -> None:
        self.signal = 0


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Take note of the first Ctrl-C; the second one interrupts at once. SIGTERM is noted, too, and never hurries.

    Outside the main thread signals cannot be handled, so that none is ever noted.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        if interrupt.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        interrupt.signal = number

    signal.signal(signal.SIGINT, handle)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


def finished(work: Callable[[], _Result], name: str, how: str = "go on with --resume") -> _Result | int:
    """What some work gives; an exit code when a signal stopped it and its state is saved.

    The code is 0 after Ctrl-C, by a person who knows, and `TERMINATED` after SIGTERM: a cluster must be able to tell
    what is finished from what it has stopped.

    Args:
        work: what is done.
        name: of the command.
        how: the way to go on, told whenever the work is stopped.
    """
    try:
        return work()
    except Stopped as stopped:
        print(f"{name}: {stopped}; everything is saved, {how}", file=sys.stderr)
        return TERMINATED if stopped.signal == signal.SIGTERM else 0
    except KeyboardInterrupt:
        print(f"{name}: what is finished is kept, {how}", file=sys.stderr)
        raise


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold both signals back while workers start: they inherit the blocked ones, and this process gets them afterwards.

    A terminal sends Ctrl-C to the whole group, a cluster SIGTERM to every process; a worker that died of it would take
    the others with it, at any point. Workers call `enter_worker` first.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def enter_worker() -> None:
    """Let SIGTERM end this worker a little later, so that its parent, which got it too, can stop it in order.

    It must end it at last: a pool that has lost a worker ends the others by SIGTERM and waits for them.
    """
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_WORKER_PATIENCE_S))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
