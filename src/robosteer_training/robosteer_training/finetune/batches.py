"""Which frames make which batch, and a thread that prepares the next one while the device works."""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import numpy as np


def stream_rows(rows: np.ndarray, first: int, count: int, seed: int, stream: int = 0) -> np.ndarray:
    """Part of an endless sequence of shuffled epochs; a function of its arguments alone.

    Args:
        rows: (n,) the frames to draw from.
        first: position in the sequence.
        count: how many rows.
        seed: of the shuffling.
        stream: its number, when there are several.
    """
    epochs = range(first // len(rows), (first + count - 1) // len(rows) + 1)
    keys = ([seed, 2, epoch] + [stream] * (stream > 0) for epoch in epochs)
    order = np.concatenate([np.random.default_rng(key).permutation(rows) for key in keys])
    start = first - epochs[0] * len(rows)
    return order[start : start + count]


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Which frames make which batch: a function of the step, so that a resumed run sees what it would have seen.

    Attributes:
        rows: per task, the frames to draw from. All in one when tasks are not told apart.
        batch_size: B.
        seed: of the shuffling.
        alternate: a batch holds one task, the next one the next; otherwise equal shares of every task.
    """

    rows: tuple[np.ndarray, ...]
    batch_size: int
    seed: int
    alternate: bool = False

    def __call__(self, step: int) -> np.ndarray:
        """(B,) rows of the batch of one step."""
        tasks, size = len(self.rows), self.batch_size
        if self.alternate:
            task = step % tasks
            return stream_rows(self.rows[task], step // tasks * size, size, self.seed, task)
        # Slot s of the endless sequence of rows belongs to task s mod n and is its (s div n)-th row.
        slots = np.arange(step * size, (step + 1) * size)
        chosen = np.empty(size, np.int64)
        for task, rows in enumerate(self.rows):
            mine = np.flatnonzero(slots % tasks == task)
            if mine.size:
                chosen[mine] = stream_rows(rows, int(slots[mine[0]]) // tasks, mine.size, self.seed, task)
        return chosen


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
