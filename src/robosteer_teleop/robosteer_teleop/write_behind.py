"""A file that is written and synchronised by threads of its own, so that a stalled disk never stalls a receiver."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from pathlib import Path

DEFAULT_SYNC_PERIOD_S = 0.5
DEFAULT_MAX_PENDING_BYTES = 512 * 2**20


class WriteBehindFile:
    """An append-only file whose `write` returns at once.

    One thread hands the bytes to the kernel as soon as they arrive, which is what survives SIGKILL; another calls
    fsync periodically, which is what survives a power cut. They are two so that a slow fsync does not delay writes.

    Errors of the threads (disk full, file too large) are raised by the next `write`, `check` or `close`.
    """

    def __init__(
        self,
        path: Path,
        *,
        sync_period_s: float = DEFAULT_SYNC_PERIOD_S,
        max_pending_bytes: int = DEFAULT_MAX_PENDING_BYTES,
    ) -> None:
        """Create the file.

        Args:
            path: must not exist yet.
            sync_period_s: time between two fsync calls, s.
            max_pending_bytes: memory for what the disk has not taken yet; more than that is an error.

        Raises:
            OSError: when the file cannot be created.
        """
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._sync_period_s = sync_period_s
        self._max_pending_bytes = max_pending_bytes
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self._length = 0
        self._closing = False
        self._error: OSError | None = None
        self._changed = threading.Condition()
        self._stop_sync = threading.Event()
        self._threads = [
            threading.Thread(target=self._write_loop, name="bag-write", daemon=True),
            threading.Thread(target=self._sync_loop, name="bag-sync", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def write(self, data: bytes) -> int:
        """Queue bytes.

        Raises:
            OSError: met by a thread before, or when the disk is too far behind.
        """
        with self._changed:
            if self._error is not None:
                raise self._error
            if self._closing:
                raise ValueError(f"{self.path}: write after close")
            if self._pending_bytes + len(data) > self._max_pending_bytes:
                self._error = OSError(f"the disk is {self._pending_bytes / 2**20:.0f} MiB behind")
                raise self._error
            self._pending.append(data)
            self._pending_bytes += len(data)
            self._length += len(data)
            self._changed.notify_all()
        return len(data)

    def tell(self) -> int:
        """Bytes queued so far, which is the offset of the next byte."""
        return self._length

    def check(self) -> None:
        """Raise what a thread has met, if anything."""
        with self._changed:
            if self._error is not None:
                raise self._error

    def close(self) -> None:
        """Write what is queued, synchronise and close.

        Raises:
            OSError: when some byte did not reach the disk. The file is closed all the same.
        """
        self._end_threads()
        try:
            if self._error is None and self._fd >= 0:
                os.fsync(self._fd)
        finally:
            self._close_fd()
        self.check()

    def abandon(self) -> None:
        """Close after an error; what reached the disk stays there. Does nothing on a closed file."""
        self._end_threads()
        self._close_fd()

    def _close_fd(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _end_threads(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._stop_sync.set()
        for thread in self._threads:
            thread.join()

    def _write_loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._closing)
                if not self._pending or self._error is not None:
                    return
                data = self._pending.popleft()
            try:
                self._write_all(data)
            except OSError as error:
                self._fail(error)
                return
            with self._changed:
                self._pending_bytes = max(0, self._pending_bytes - len(data))

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def _sync_loop(self) -> None:
        synced = 0
        while not self._stop_sync.wait(self._sync_period_s):
            if self._length == synced:
                continue
            synced = self._length
            try:
                os.fsync(self._fd)
            except OSError as error:
                self._fail(error)
                return

    def _fail(self, error: OSError) -> None:
        with self._changed:
            self._error = self._error or error
            self._pending.clear()
            self._pending_bytes = 0


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durably(path: Path, text: str) -> None:
    """Replace a small text file so that after a crash either the old or the new content is there, never a part."""
    temporary = path.with_name(f".{path.name}.{time.monotonic_ns()}")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
