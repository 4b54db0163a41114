"""`robosteer paper`: from the name of a table or figure to its files."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from robosteer_model import tokenizer
from robosteer_model.transforms import Transforms
from robosteer_training.paper import analyses, numbers, tables
from robosteer_training.paper.lab import Lab
from robosteer_training.paper.result import Result
from robosteer_training.paper.success import Table, measure, only

WILSON = "95 % Wilson interval"


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One table or figure.

    Attributes:
        title: what it asks.
        unit: of the numbers.
        interval_is: what the intervals are; empty when there are none.
        table: lines and columns of a table of success rates, or None.
        analysis: fills the result, or None.
        notes: what differs in this one.
        shapes_only: it needs no data.
        tasks: how many it needs at least.
    """

    title: str
    unit: str
    interval_is: str = WILSON
    table: Callable[[Lab], Table] | None = None
    analysis: Callable[[Lab, Result], None] | None = None
    notes: tuple[str, ...] = ()
    shapes_only: bool = False
    tasks: int = 1


_SUCCESS = "Success in per cent; the paper's is π0.5's, one trial in each of 40 cells."
_OTHER_TASKS = "The paper does not say which two other tasks are meant; ours are the second task and the unseen one."

EXPERIMENTS: dict[str, Experiment] = {
    "table1": Experiment("Table 1: zero-shot, LoRA and steering on every task", _SUCCESS, table=tables.table1),
    "table2": Experiment(
        "Table 2: other tasks and changed conditions", _SUCCESS, table=tables.table2, notes=(_OTHER_TASKS,), tasks=2
    ),
    "table3": Experiment(
        "Table 3: how heads are chosen, and which parts of them are trained",
        "Success in per cent; the paper's is π0's.",
        table=tables.table3,
        notes=(
            "The paper states neither noise nor reward of its baselines. cma puts noise of a head's own deviation on "
            "its suffix output and reads the flow loss; reinforce rewards small action errors of what it keeps.",
            "random, worst and no heads are controls that the paper's table does not have.",
        ),
    ),
    "table4": Experiment(
        "Table 4: spread of head scores by token position",
        "CV = σ/μ of the k-NN errors of all heads.",
        "95 %, jackknife over episodes",
        analysis=analyses.table4,
        notes=("One noise chunk serves all frames; the first suffix token of π0.5 is a noisy action.",),
    ),
    "table5": Experiment(
        "Table 5: whole parameters instead of low-rank factors",
        _SUCCESS,
        table=tables.table5,
        notes=("We take the paper's three columns for the first three tasks of Table 1; it does not name them.",),
    ),
    "table6": Experiment(
        "Table 6: groups of heads vote for the task",
        "Accuracy on frames of episodes that made no centroid; margin is correct minus wrong votes over votes.",
        f"least and most of {analyses.SPLITS} splits",
        analysis=analyses.table6,
        tasks=2,
    ),
    "table7": Experiment(
        "Table 7: what is trained",
        "Counted, not estimated.",
        "",
        analysis=analyses.table7,
        shapes_only=True,
        notes=(
            "The paper prints MiB of float32 as millions of parameters; rank 16 yields its digits, not the stated 8.",
        ),
    ),
    "fig3": Experiment(
        "Figure 3: demonstrations and steps",
        _SUCCESS,
        table=tables.figure3,
        notes=("Every number of steps is a run of its own, schedule and all; the paper tries checkpoints on the way.",),
    ),
    "fig4": Experiment("Figure 4: head maps of two tasks", "k-NN error of every head.", "", analysis=analyses.figure4),
    "fig5": Experiment("Figure 5: number of heads", _SUCCESS, table=tables.figure5),
    "fig6": Experiment(
        "Figure 6: stability of the chosen heads",
        "Five variants of the data.",
        "least and most",
        analysis=analyses.figure6,
    ),
    "fig7": Experiment(
        "Figure 7: heads shared between tasks", "Jaccard index.", "least and most", analysis=analyses.figure7, tasks=2
    ),
    "fig8": Experiment(
        "Figure 8: head maps of the other tasks", "k-NN error of every head.", "", analysis=analyses.figure8, tasks=3
    ),
}


def run(name: str, lab: Lab, out: Path, command: str) -> Result:
    """Do an experiment, or finish it; everything that was made before is found again.

    Args:
        name: of `EXPERIMENTS`.
        lab: makes what is needed.
        out: directory of the results.
        command: how to repeat it, for the page.
    """
    told = EXPERIMENTS[name]
    result = Result(name, told.title, told.unit, told.interval_is)
    result.differs = [*told.notes, *common_differences(lab, told)]
    result.provenance = {
        "command": command,
        "base": str(lab.settings.base),
        "base_digest": lab.base_digest,
        "rig_digest": lab.rig.digest(),
        "tasks": list(lab.settings.tasks),
        "demos": lab.settings.demos,
        "cells": lab.settings.cells,
        "seeds": list(lab.settings.seeds),
        "trainings": lab.settings.trainings,
        "training": lab.settings.training.to_json(),
        "wide_peak_lr": lab.settings.wide_peak_lr,
    }
    lab.take_costs()
    with tokenizer_remarks():
        _fill(told, lab, result, out)
    result.save(out)
    return result


def _fill(told: Experiment, lab: Lab, result: Result, out: Path) -> None:
    if told.table is not None:
        table = told.table(lab)
        chosen = only(table, lab.settings.lines)
        left_out = [line.name for line in table.lines if line not in chosen.lines]
        result.differs += [f"Not tried: {'; '.join(left_out)}."] if left_out else []
        measure(lab, chosen, result, lambda r: r.save(out))
    elif told.analysis is not None:
        told.analysis(lab, result)
        result.whole = True


@contextlib.contextmanager
def tokenizer_remarks() -> Iterator[list[str]]:
    """Collect what the tokenizer complains of, once each instead of once per frame."""
    said: dict[str, None] = {}

    def note(record: logging.LogRecord) -> bool:
        said[record.getMessage()] = None
        return False

    logger, found = logging.getLogger(tokenizer.__name__), []
    logger.addFilter(note)
    try:
        yield found
    finally:
        logger.removeFilter(note)
        found += said


def common_differences(lab: Lab, told: Experiment) -> list[str]:
    """What every experiment of ours has that the paper's have not."""
    s, gemma = lab.settings, lab.base.config.paligemma
    total = gemma.depth * gemma.num_heads
    parameters = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(dict(lab.base.params)))
    texts = [
        f"Model: {s.base.name}, {parameters / 1e6:,.1f} M parameters, {total} heads in "
        f"{gemma.depth} layers, so {lab.heads()} stand for the paper's {numbers.HEADS} of {numbers.TOTAL}."
    ]
    if told.shapes_only:
        return texts
    texts.append(
        f"World: the simulated cell and its scripted expert instead of a Franka and a teleoperator; {s.demos} "
        f"demonstrations per task at {lab.rig.action.rate_hz:g} Hz instead of 20 at 6 Hz."
    )
    with tokenizer_remarks() as said:
        tokens = Transforms.of(lab.base)
        for task in s.tasks:
            tokens.prompt_tokenizer.tokenize(task, np.ones(tokens.norm_stats["state"].size))
    texts += [f"The base's prompts are short: {remark}." for remark in said]
    if s.tasks != numbers.TASKS:
        texts.append(f"Tasks: {', '.join(s.tasks)} instead of the paper's five.")
    if told.table is not None:
        t = s.training
        wide = "" if s.wide_peak_lr is None else f" ({s.wide_peak_lr:g} for LoRA and whole parameters)"
        texts.append(
            "Every policy is trained once: intervals and p-values are about trials, not about other seeds of training."
            if s.trainings == 1
            else f"Policies are trained {s.trainings} times on the same demonstrations, each one's successes are told. "
            "Intervals of cells are about trials, those of differences about trainings and grid cells."
        )
        texts.append(f"Trials: {s.cells} cells × {len(s.seeds)} seeds instead of 40 cells once.")
        texts.append(
            f"Training: {t.steps} steps of {t.batch_size} frames, {t.flow_draws} flow draws each, at a peak learning "
            f"rate of {t.peak_lr:g}{wide} instead of 5,000 of 32, one draw, at 2.5e-5."
        )
    return texts
