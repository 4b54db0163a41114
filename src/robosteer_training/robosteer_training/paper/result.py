"""What an experiment gives: ours beside the paper's, what it cost, what differs; as JSON and Markdown."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from robosteer_training.files import write_bytes, write_json

SCHEMA = "robosteer.paper/1"
_COSTS_ARE = (
    "Wall time of everything that a cell needs, over all sessions, on a machine that may have had other work. Cells "
    "share what they have in common; a demonstration counts in the first dataset that it was made for."
)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One number, ours beside the paper's.

    Attributes:
        row: of the table.
        column: of the table.
        ours: in the unit of the column; None where it could not be measured yet.
        interval: 95 % interval, or what `interval_is` says.
        paper: the paper's number, or its two ends of a range; None where it has none.
        text: ours, for people; made from the number when empty.
        failures: trials that failed, by reason.
        seconds: of everything that it took, by kind, whichever session made it.
        part: of the result that has a table of its own.
    """

    row: str
    column: str
    ours: float | None
    interval: tuple[float, float] | None = None
    paper: float | tuple[float, float] | None = None
    text: str = ""
    failures: dict[str, int] = dataclasses.field(default_factory=dict)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    part: str = ""

    def markdown(self) -> str:
        """`ours (interval) / paper`, without the paper where it has no number."""
        ours = self.text or ("…" if self.ours is None else f"{self.ours:.3g}")
        if self.interval is not None:
            ours += f" ({self.interval[0]:.3g} to {self.interval[1]:.3g})"
        if self.paper is None:
            return ours
        ends = self.paper if isinstance(self.paper, tuple) else (self.paper,)
        return f"{ours} / {' to '.join(f'{end:g}' for end in ends)}"


@dataclasses.dataclass
class Result:
    """One table or figure.

    Attributes:
        name: such as "table1".
        title: what it asks.
        unit: of the numbers.
        interval_is: what the intervals are; empty when there are none.
        cells: so far.
        differs: what is not as in the paper, a line each.
        findings: what follows from the numbers, a line each, made by the experiment.
        figures: file name -> SVG.
        data: everything else, for machines.
        provenance: model, digests, sizes.
        whole: whether all cells are there.
    """

    name: str
    title: str
    unit: str
    interval_is: str
    cells: list[Cell] = dataclasses.field(default_factory=list)
    differs: list[str] = dataclasses.field(default_factory=list)
    findings: list[str] = dataclasses.field(default_factory=list)
    figures: dict[str, bytes] = dataclasses.field(default_factory=dict)
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    whole: bool = False

    def save(self, directory: Path) -> None:
        """Write `<name>.json`, `<name>.md` and the figures."""
        machine = {"machine": platform.machine(), "backend": f"{jax.default_backend()}, jax {jax.__version__}"}
        write_json(
            directory / f"{self.name}.json",
            {
                "schema": SCHEMA,
                "name": self.name,
                "whole": self.whole,
                "unit": self.unit,
                "interval_is": self.interval_is,
                "cells": [dataclasses.asdict(cell) for cell in self.cells],
                "findings": self.findings,
                "differs": self.differs,
                "data": self.data,
                "provenance": self.provenance | machine,
            },
        )
        for file, data in self.figures.items():
            write_bytes(directory / file, data)
        write_bytes(directory / f"{self.name}.md", self.markdown().encode())

    def markdown(self) -> str:
        """The page."""
        lines = [f"# {self.title}", ""]
        lines += [f"Written by `{self.provenance.get('command', 'robosteer paper ' + self.name)}`.", ""]
        if not self.whole:
            lines += ["Not finished: cells marked … are still to be run; the same command goes on.", ""]
        lines += [f"Each cell: ours{self.interval_is and f' ({self.interval_is})'} / the paper's. {self.unit}", ""]
        for part in dict.fromkeys(cell.part for cell in self.cells):
            lines += ["", f"## {part}", ""] if part else []
            lines += _table([cell for cell in self.cells if cell.part == part], Cell.markdown)
        for file in self.figures:
            lines += ["", f"![{self.title}]({file})"]
        for title, texts in (("What follows", self.findings), ("What differs from the paper", self.differs)):
            if texts:
                lines += ["", f"## {title}", "", *(f"- {text}" for text in texts)]
        if any(cell.failures for cell in self.cells):
            lines += ["", "## Why trials failed", "", *_table(self.cells, _failures)]
        if any(cell.seconds for cell in self.cells):
            lines += ["", "## Compute time, s", "", _COSTS_ARE, "", *_table(self.cells, _costs)]
        return "\n".join(lines) + "\n"


def _failures(cell: Cell) -> str:
    return ", ".join(f"{reason.replace('_', ' ')} {count}" for reason, count in cell.failures.items()) or "–"


def _costs(cell: Cell) -> str:
    return ", ".join(f"{kind} {seconds:.0f}" for kind, seconds in cell.seconds.items()) or "–"


def _table(cells: Sequence[Cell], show: Callable[[Cell], str]) -> list[str]:
    rows, columns = (list(dict.fromkeys(getattr(cell, name) for cell in cells)) for name in ("row", "column"))
    shown = {(cell.row, cell.column): show(cell) for cell in cells}
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    return lines + [
        f"| {row} | " + " | ".join(shown.get((row, column), "") for column in columns) + " |" for row in rows
    ]
