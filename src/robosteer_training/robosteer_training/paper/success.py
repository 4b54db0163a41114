"""Tables of success rates: every line is a policy, every column a task or a condition."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from robosteer_rig.errors import RobosteerError
from robosteer_training.evaluation.comparison import Difference, compare
from robosteer_training.evaluation.result import Evaluation
from robosteer_training.evaluation.statistics import holm, wilson_interval
from robosteer_training.paper.lab import Lab
from robosteer_training.paper.result import Cell, Result
from robosteer_training.report.success_figure import Rate, success_figure


@dataclasses.dataclass(frozen=True)
class Line:
    """One way to get a policy.

    Attributes:
        name: of the row.
        policy: makes it for a column.
        paper: the paper's per cent by column.
    """

    name: str
    policy: Callable[[str], Path]
    paper: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Table:
    """Lines and columns.

    Attributes:
        columns: name -> (task, variation).
        lines: policies.
        reference: name of the line that the others are compared with.
    """

    columns: Mapping[str, tuple[str, str]]
    lines: Sequence[Line]
    reference: str


def only(table: Table, patterns: Sequence[str]) -> Table:
    """The lines whose names match, and the one that they are compared with; all without patterns.

    Args:
        table: every line.
        patterns: as of file names, such as "steering*".

    Raises:
        RobosteerError: for a pattern that no line matches.
    """
    names = [line.name for line in table.lines]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise RobosteerError(f"--lines: found {pattern!r}, expected a pattern of some of {names}")
    if not patterns:
        return table
    wanted = [line for line in table.lines if any(fnmatchcase(line.name, p) for p in (*patterns, table.reference))]
    return dataclasses.replace(table, lines=wanted)


def measure(lab: Lab, table: Table, result: Result, saved: Callable[[Result], None]) -> None:
    """Fill the result cell by cell; `saved` is called after each, so that a long run can be read while it goes on.

    Args:
        lab: makes what is needed.
        table: what to measure.
        result: gets cells and findings.
        saved: keeps the result.
    """
    result.cells = [
        Cell(line.name, column, None, paper=line.paper.get(column)) for line in table.lines for column in table.columns
    ]
    lines = {line.name: line for line in table.lines}
    found: dict[str, dict[str, Evaluation]] = {name: {} for name in lines}
    lab.take_costs()
    for number, cell in enumerate(result.cells):
        task, variation = table.columns[cell.column]
        evaluation = lab.success(lines[cell.row].policy(cell.column), task, variation)
        found[cell.row][cell.column] = evaluation
        low, high = wilson_interval(evaluation.successes, len(evaluation.trials))
        share = 100 * evaluation.successes / len(evaluation.trials)
        text = f"{evaluation.successes}/{len(evaluation.trials)} = {share:.1f}"
        result.cells[number] = dataclasses.replace(
            cell, ours=share, interval=(100 * low, 100 * high), text=text, seconds=lab.take_costs()
        )
        result.figures = {f"{result.name}.svg": _figure(result)}
        saved(result)
    result.findings = differences(found, table.reference)
    result.whole = True
    saved(result)


def _figure(result: Result) -> bytes:
    panels: dict[str, list[Rate]] = {}
    for cell in result.cells:
        paper = None if isinstance(cell.paper, tuple) else cell.paper
        panels.setdefault(cell.column, []).append(Rate(cell.row, cell.ours, cell.interval, paper))
    return success_figure(result.name, panels)


def differences(found: Mapping[str, Mapping[str, Evaluation]], reference: str) -> list[str]:
    """Each line against the reference over the columns that both have, in pairs; p is adjusted for the lines."""
    pairs: dict[str, tuple[Difference, int]] = {}
    for name, results in found.items():
        shared = [column for column in results if column in found[reference]]
        if name == reference or not shared:
            continue
        (difference,) = compare({reference: _pool(found[reference], shared), name: _pool(results, shared)})
        pairs[name] = difference, len(shared)
    adjusted = holm([difference.p for difference, _ in pairs.values()])
    texts = []
    for (name, (d, columns)), p in zip(pairs.items(), adjusted, strict=True):
        low, high = (100 * x for x in d.interval_95)
        text = (
            f"{name} against {reference}, {d.trials} pairs over {columns} columns: {100 * d.difference:+.1f} "
            f"points (95 % interval {low:+.1f} to {high:+.1f}), McNemar exact p = {d.p:.2g}"
        )
        texts.append(text if len(pairs) == 1 else f"{text}, {p:.2g} adjusted for {len(pairs)} comparisons")
    return texts


def _pool(results: Mapping[str, Evaluation], columns: Sequence[str]) -> Evaluation:
    trials = tuple(trial for column in columns for trial in results[column].trials)
    return dataclasses.replace(results[columns[0]], trials=trials)
