"""Tables of success rates: every line is a policy, every column a task or a condition."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_training.evaluation.comparison import compare, require_same_scenes
from robosteer_training.evaluation.result import Evaluation
from robosteer_training.evaluation.statistics import crossed_bootstrap, holm, wilson_interval
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


# line -> column -> one evaluation per training; a single one where nothing is trained.
Found = dict[str, dict[str, list[Evaluation]]]


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
    found: Found = {name: {} for name in lines}
    lab.take_costs()
    for number, cell in enumerate(result.cells):
        evaluations = tried(lab, lines[cell.row], cell.column, table.columns[cell.column])
        found[cell.row][cell.column] = evaluations
        successes, trials = [e.successes for e in evaluations], sum(len(e.trials) for e in evaluations)
        low, high = wilson_interval(sum(successes), trials)
        share = 100 * sum(successes) / trials
        result.cells[number] = dataclasses.replace(
            cell,
            ours=share,
            interval=(100 * low, 100 * high),
            text=f"{' + '.join(map(str, successes))}{' of ' if len(successes) > 1 else '/'}{trials} = {share:.1f}",
            failures=_failures(evaluations),
            seconds=lab.take_costs(),
        )
        result.figures = {f"{result.name}.svg": _figure(result)}
        saved(result)
    result.findings = differences(found, table.reference)
    result.whole = True
    saved(result)


def tried(lab: Lab, line: Line, column: str, condition: tuple[str, str]) -> list[Evaluation]:
    """Success of the policy of every training."""
    found: dict[Path, Evaluation] = {}
    for number in range(lab.settings.trainings):
        lab.training_number = number
        policy = line.policy(column)
        if policy not in found:
            found[policy] = lab.success(policy, *condition)
    lab.training_number = 0
    return list(found.values())


def _failures(evaluations: Sequence[Evaluation]) -> dict[str, int]:
    trials = (trial for evaluation in evaluations for trial in evaluation.trials if not trial.success)
    return dict(Counter(trial.failure or "unknown" for trial in trials).most_common())


def _figure(result: Result) -> bytes:
    panels: dict[str, list[Rate]] = {}
    for cell in result.cells:
        paper = None if isinstance(cell.paper, tuple) else cell.paper
        panels.setdefault(cell.column, []).append(Rate(cell.row, cell.ours, cell.interval, paper))
    return success_figure(result.name, panels)


def differences(found: Mapping[str, Mapping[str, Sequence[Evaluation]]], reference: str) -> list[str]:
    """Each line against the reference over the columns that both have, in pairs.

    With one training each, the interval is about grid cells, and an exact test is adjusted for the lines. With several
    it is about trainings, too, where a test of pairs would count trials of one policy as if they were independent.
    """
    shared = {
        name: [column for column in results if column in found[reference]]
        for name, results in found.items()
        if name != reference
    }
    shared = {name: columns for name, columns in shared.items() if columns}
    if any(len(evaluations) > 1 for results in found.values() for evaluations in results.values()):
        return [_over_trainings(found, name, reference, columns) for name, columns in shared.items()]
    pairs = {
        name: compare({reference: _pool(found[reference], columns), name: _pool(found[name], columns)})[0]
        for name, columns in shared.items()
    }
    adjusted = holm([difference.p for difference in pairs.values()])
    texts = []
    for (name, d), p in zip(pairs.items(), adjusted, strict=True):
        text = (
            f"{name} against {reference}, {d.trials} pairs over {len(shared[name])} columns: "
            f"{_points(d.difference, d.interval_95)}, McNemar exact p = {d.p:.2g}"
        )
        texts.append(text if len(pairs) == 1 else f"{text}, {p:.2g} adjusted for {len(pairs)} comparisons")
    return texts


def _points(difference: float, interval: tuple[float, float]) -> str:
    low, high = (100 * x for x in interval)
    return f"{100 * difference:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})"


def _pool(results: Mapping[str, Sequence[Evaluation]], columns: Sequence[str]) -> Evaluation:
    trials = tuple(trial for column in columns for trial in results[column][0].trials)
    return dataclasses.replace(results[columns[0]][0], trials=trials)


def _over_trainings(
    found: Mapping[str, Mapping[str, Sequence[Evaluation]]], name: str, reference: str, columns: Sequence[str]
) -> str:
    blocks = [_gains(found[reference][column], found[name][column]) for column in columns]
    each = [100 * float(np.mean([block[:, i].mean() for block in blocks])) for i in range(blocks[0].shape[1])]
    return (
        f"{name} against {reference} over {len(columns)} columns and {len(each)} trainings: "
        f"{_points(float(np.mean(each)) / 100, crossed_bootstrap(blocks))}; "
        f"training by training {', '.join(f'{points:+.1f}' for points in each)}"
    )


def _gains(reference: Sequence[Evaluation], other: Sequence[Evaluation]) -> np.ndarray:
    """(grid cells, trainings): mean success over what was tried in a cell, other minus reference."""
    count = max(len(reference), len(other))
    for one, two in zip(reference, other, strict=False):
        require_same_scenes(("the reference", one), ("the other", two))

    def means(evaluations: Sequence[Evaluation]) -> np.ndarray:
        cells = list(dict.fromkeys(trial.scene.grid_cell for trial in evaluations[0].trials))
        rates = [
            [np.mean([t.success for t in e.trials if t.scene.grid_cell == cell]) for cell in cells] for e in evaluations
        ]
        return np.broadcast_to(np.transpose(rates), (len(cells), count))

    return means(other) - means(reference)
