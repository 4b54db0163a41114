"""Orbax's writes, waited for also when one of them fails.

With the first failure, as of a full disk, orbax closes the event loop in which it gathers its writes, and raises. The
other writes go on, in its threads and in TensorStore's: they make files in a directory that is being removed meanwhile,
and report to a loop that is closed, which Python shows as a traceback of nobody's.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LONGEST_S = 60.0
"""Nobody waits longer for one of orbax's threads: it might wait for others itself."""


class PatientLoop(asyncio.SelectorEventLoop):
    """A loop that ends when everything that was begun in it has ended."""

    def close(self) -> None:
        """Run what is left to its end, whatever it comes to; then close."""
        while not self.is_closed() and not self.is_running() and (left := asyncio.all_tasks(self)):
            self.run_until_complete(asyncio.wait(left))
            for task in left:
                if not task.cancelled():
                    task.exception()  # Seen; the first failure is the one that is told.
        super().close()


class _Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return PatientLoop()


@contextmanager
def everything_awaited() -> Iterator[None]:
    """Leave the block when all that orbax began inside it has ended, also after an exception."""
    before, threads = asyncio.get_event_loop_policy(), set(threading.enumerate())
    asyncio.set_event_loop_policy(_Policy())
    try:
        yield
    finally:
        for thread in set(threading.enumerate()) - threads:
            if type(thread).__module__.startswith("orbax."):
                thread.join(_LONGEST_S)
        asyncio.set_event_loop_policy(before)
