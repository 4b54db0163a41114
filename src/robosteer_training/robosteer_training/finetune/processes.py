"""Several processes that train together: how they meet, what they tell each other, how they part."""

from __future__ import annotations

import atexit
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np

from robosteer_rig.errors import RobosteerError


def told_by_all(value: int) -> list[int]:
    """What each process says; all of them must ask."""
    if jax.process_count() == 1:
        return [value]
    from jax.experimental import multihost_utils

    return np.ravel(multihost_utils.process_allgather(np.asarray(value, np.int32))).tolist()


# How long the processes look for each other.
JOIN_TIMEOUT_S = 120
# Process 0 merges, writes and verifies after the last common step; the others wait for it this long.
EXPORT_TIMEOUT_S = 3600


def join_processes(coordinator: str, count: int, index: int) -> None:
    """Make this process one of several that train together. Call it before anything touches a device.

    Args:
        coordinator: "host:port" of process 0.
        count: number of processes.
        index: which one this is, from 0.

    Raises:
        RobosteerError: when they do not find each other.
    """
    if not 0 <= index < count:
        raise RobosteerError(f"--process-id: found {index}, expected 0 ... {count - 1}")
    print(f"waiting up to {JOIN_TIMEOUT_S} s for {count} processes at {coordinator}", file=sys.stderr, flush=True)
    if index:
        reach(coordinator, JOIN_TIMEOUT_S)
    # JAX would take SIGTERM for itself, and the training not see it: the processes agree on when to stop without that.
    jax.config.update("jax_enable_preemption_service", False)
    with _stdout_to_stderr():  # the transport greets there at the first exchange, and would spoil --json
        try:
            jax.distributed.initialize(
                coordinator,
                count,
                index,
                initialization_timeout=JOIN_TIMEOUT_S,
                shutdown_timeout_seconds=EXPORT_TIMEOUT_S,
            )
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise RobosteerError(
                f"--coordinator: cannot join {count} processes at {coordinator} ({reason}); check address and firewall"
            ) from error
        told_by_all(index)


def reach(coordinator: str, seconds: float) -> None:
    """Wait until process 0 answers; JAX itself would abort with a dump of its stack.

    Raises:
        RobosteerError: it does not.
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise RobosteerError(f"--coordinator: found {coordinator!r}, expected host:port of process 0")
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise RobosteerError(
                    f"--coordinator: found nobody at {coordinator} ({error.strerror or error}), expected process 0; "
                    "start it, or check address and firewall"
                ) from error
            time.sleep(0.2)
        else:
            return


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send what libraries print on file descriptor 1 to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def start_together(ready: bool) -> None:
    """Wait until every process is ready, or one is not.

    Raises:
        RobosteerError: another process gave up.
    """
    told = told_by_all(ready)
    if not all(told):
        leave_processes()
        if ready:
            raise RobosteerError(
                f"processes: found number {told.index(0)} giving up, expected all to start; see what it says"
            )


def leave_processes() -> None:
    """Wait for all processes, then be one's own."""
    if jax.process_count() > 1:
        jax.distributed.shutdown()


def abandon_processes(code: int) -> None:
    """End with this exit code without waiting for the others, who would wait for this one; they notice and end."""

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    if jax.process_count() > 1:
        atexit.register(end)  # before JAX's own handler, which meets the others: handlers run last in, first out
