"""Stages of a long run: progress bars with ETA, a line when one is done, times that survive an interruption."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from robosteer_training.files import write_json


class Stage:
    """One running stage.

    Attributes:
        bar: the progress display, for work that draws its own bars.
        outcome: what the closing line says.
        reused: the work had been done by an earlier run.
    """

    def __init__(self, bar: Progress, name: str) -> None:
        self.bar, self._name, self.outcome, self.reused = bar, name, "", False
        self._task = bar.add_task(name, total=None)

    def say(self, text: str) -> None:
        """A line that stays above the bar."""
        self.bar.console.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)

    def advance(self, done: int, total: int, note: str = "") -> None:
        """Show how far the work is."""
        self.bar.update(self._task, completed=done, total=total, description=f"{self._name} {note}".rstrip())


class Stages:
    """Runs stages in order and remembers how long each took, over all sessions.

    Args:
        console: where lines go.
        path: JSON file of the times.
        count: number of stages.
    """

    def __init__(self, console: Console, path: Path, count: int) -> None:
        self.console, self._path, self._count, self._index = console, path, count, 0
        try:
            self.seconds: dict[str, float] = json.loads(path.read_text())
        except (OSError, ValueError):
            self.seconds = {}
        self.reused: list[str] = []

    @contextmanager
    def run(self, name: str) -> Iterator[Stage]:
        """Time one stage; its time counts even when it is interrupted."""
        self._index += 1
        start = time.monotonic()
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
        )
        try:
            # Where lines are kept (a file, a pipe) only the closing line is of use.
            plain = not self.console.is_terminal
            with Progress(*columns, console=self.console, transient=True, disable=plain) as bar:
                stage = Stage(bar, name)
                yield stage
        finally:
            spent = time.monotonic() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
            if self._path.parent.exists():
                write_json(self._path, self.seconds)
        if stage.reused:
            self.reused.append(name)
        reused = ", reused" if stage.reused else ""
        text = f"[{self._index}/{self._count}] {name}: {stage.outcome}{reused} ({spent:.1f} s)"
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
