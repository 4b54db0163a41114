"""Which frames make which batch, and a thread that prepares the next one while the device works."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import numpy as np


def batch_rows(rows: np.ndarray, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Rows of the batch of one step: a slice of an endless sequence of shuffled epochs.

    A function of (seed, step) alone, so that a resumed run sees the batches that it would have seen.

    Args:
        rows: (n,) the frames to draw from.
        batch_size: B.
        seed: of the shuffling.
        step: 0, 1, ...
    """
    first = step * batch_size
    epochs = range(first // len(rows), (first + batch_size - 1) // len(rows) + 1)
    order = np.concatenate([np.random.default_rng([seed, 2, epoch]).permutation(rows) for epoch in epochs])
    start = first - epochs[0] * len(rows)
    return order[start : start + batch_size]


class Prefetch:
    """Calls `make(step)` one step ahead in a thread; a context manager that always ends it.

    Attributes:
        waited_s: seconds that the consumer spent waiting for data.
    """

    def __init__(self, make: Callable[[int], Any], steps: range, ahead: int = 2) -> None:
        self._make, self._steps = make, steps
        self._queue: queue.Queue[Any] = queue.Queue(ahead)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self.waited_s = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        while self._thread.is_alive():
            # An empty slot lets a blocked producer see the stop.
            try:
                self._queue.get_nowait()
            except queue.Empty:
                self._thread.join(0.01)

    def __iter__(self) -> Iterator[Any]:
        for _ in self._steps:
            start = time.monotonic()
            item = self._queue.get()
            self.waited_s += time.monotonic() - start
            if isinstance(item, BaseException):
                raise item
            yield item

    def _run(self) -> None:
        for step in self._steps:
            try:
                item = self._make(step)
            except Exception as error:  # noqa: BLE001 (handed to the consumer, which raises it)
                item = error
            if self._stop.is_set():
                return
            self._queue.put(item)
            if self._stop.is_set() or isinstance(item, BaseException):
                return
