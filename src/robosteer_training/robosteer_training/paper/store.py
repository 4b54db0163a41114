"""Files that are made once, whichever session or process does it, and what making them cost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from robosteer_training.files import alone, json_digest, write_json


class Store:
    """Makes things under a digest of what decides their content, or finds them; counts their cost either way.

    Attributes:
        work: directory of everything.
        console: for what a person should know.
    """

    def __init__(self, work: Path, console: Console) -> None:
        self.work, self.console = work, console
        self._spent: dict[str, float] = {}

    def once(self, kind: str, key: Any, make: Callable[[Path], None], suffix: str = "") -> Path:
        """Make a file or directory, or find it; the time of all sessions is kept beside it.

        Args:
            kind: what it is.
            key: what decides its content, as JSON.
            make: makes it at the path; it goes on by itself where it was interrupted.
            suffix: of the path.
        """
        path = self.work / kind.split(" ")[0] / (json_digest(key)[:16] + suffix)
        record = path.with_name(path.name + ".made")
        if not _made(record)["whole"]:
            with alone(path, self.waiting(kind)):
                if not (known := _made(record))["whole"]:
                    _make(lambda: make(path), record, key, known["seconds"])
        self.spend(kind, _made(record)["seconds"])
        return path

    @contextmanager
    def timed(self, kind: str) -> Iterator[None]:
        """Count the time of the block among the costs."""
        start = time.monotonic()
        yield
        self.spend(kind, time.monotonic() - start)

    def spend(self, kind: str, seconds: float) -> None:
        """Count seconds among the costs."""
        self._spent[kind] = self._spent.get(kind, 0.0) + seconds

    def take_costs(self) -> dict[str, float]:
        """Seconds by kind of everything used since the last call, whenever it was made."""
        spent, self._spent = self._spent, {}
        return {kind: round(seconds, 1) for kind, seconds in spent.items()}

    def waiting(self, kind: str) -> Callable[[], None]:
        """What to do when another process has the lock: say so."""
        return lambda: self.console.print(f"waiting for another process that makes the same ({kind})", markup=False)


def _make(make: Callable[[], None], record: Path, key: Any, spent: float) -> None:
    start, whole = time.monotonic(), False
    try:
        make()
        whole = True
    finally:
        write_json(record, {"key": key, "seconds": spent + time.monotonic() - start, "whole": whole})


def _made(record: Path) -> dict[str, Any]:
    """What is known of something that is made once."""
    return json.loads(record.read_text()) if record.exists() else {"seconds": 0.0, "whole": False}
