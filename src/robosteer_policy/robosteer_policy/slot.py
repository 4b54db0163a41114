"""A place for one value between two threads: the newest wins, nobody waits for a slow reader."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):
    """The slot's other side has ended."""


class LatestSlot(Generic[T]):
    """Holds at most one value."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._value: T | None = None
        self._closed = False

    def put(self, value: T) -> None:
        """Store a value, replacing one that was not taken."""
        with self._changed:
            self._value = value
            self._changed.notify()

    def take(self) -> T | None:
        """Take the value if there is one; never waits."""
        with self._changed:
            value, self._value = self._value, None
            return value

    def wait(self) -> T:
        """Take the value, waiting for it.

        Raises:
            Closed: once the slot is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._value is not None)
            if self._closed or self._value is None:
                raise Closed
            value, self._value = self._value, None
            return value

    def close(self) -> None:
        """Wake a waiting reader up for the last time."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
