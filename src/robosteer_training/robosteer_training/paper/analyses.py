"""The paper's experiments that need no rollouts: Tables 4, 6 and 7, Figures 4, 6, 7 and 8."""

from __future__ import annotations

from typing import Any

import numpy as np

from robosteer_model import config as configs
from robosteer_training.dataset import load_dataset
from robosteer_training.evaluation.statistics import Z_95
from robosteer_training.finetune.explain import explain
from robosteer_training.finetune.recipes import recipe_by_name
from robosteer_training.heads.analysis import coefficient_of_variation, overlap, stability
from robosteer_training.heads.classify import compare_groups
from robosteer_training.heads.select import select_by_knn
from robosteer_training.heads.selection import HeadSelection
from robosteer_training.heads.uncertainty import episode_errors, problem_of
from robosteer_training.paper import numbers
from robosteer_training.paper.lab import POSITIONS, Lab
from robosteer_training.paper.result import Cell, Result
from robosteer_training.report.head_figures import head_maps, matrices, votes_figure

SPLITS = 10


def table4(lab: Lab, result: Result) -> None:
    """Spread of the head scores at two token positions; the interval is the jackknife's over episodes."""
    task, demos = lab.settings.tasks[0], lab.settings.demos
    source = lab.source([task], demos)
    model = source.config.model_type
    for position in POSITIONS:
        settings = lab.knn(lab.heads(), position)
        with lab.timed("scores"):
            found = select_by_knn(source, settings)
            error = cv_error(*episode_errors(problem_of(source, settings, found.k or 1)))
        ours = coefficient_of_variation(found.scores)
        interval = (ours - Z_95 * error, ours + Z_95 * error)
        paper = numbers.CV.get(model, {}).get(position)
        row = f"ours, shaped as {numbers.MODELS.get(model, model)}"
        result.cells.append(Cell(row, position, ours, interval, paper, seconds=lab.take_costs()))
        for name, values in numbers.CV.items():
            if name != model:
                result.cells.append(Cell(numbers.MODELS[name], position, None, None, values[position], "–"))
    first, last = (cell for cell in result.cells if cell.ours is not None)
    assert first.ours is not None and last.ours is not None  # noqa: S101, PT018 (chosen so)
    where = "first suffix" if first.ours > last.ours else "last prefix"
    result.findings.append(f"Heads differ most at the {where} token; in the paper at the first suffix token.")


def cv_error(sums: np.ndarray, counts: np.ndarray) -> float:
    """Standard error of the scores' CV, delete-one-episode jackknife.

    (Drawing episodes again would add noise to every score, and noise raises CV: the interval would miss the estimate.)

    Args:
        sums: (L, N, E) squared errors of each head over the frames of each episode.
        counts: (E,) frames.
    """
    total, frames = sums.sum(-1), counts.sum()
    spreads = [coefficient_of_variation((total - sums[..., i]) / (frames - n)) for i, n in enumerate(counts)]
    return float(np.sqrt((len(spreads) - 1) * np.var(spreads)))


def table6(lab: Lab, result: Result) -> None:
    """Groups of heads vote which of two tasks a frame belongs to; the range is that of ten splits of the episodes."""
    tasks, demos = lab.settings.tasks[:2], lab.settings.demos
    source, settings = lab.source(tasks, demos), lab.knn(lab.heads())
    with lab.timed("votes"):
        splits = [compare_groups(source, settings, {}, positive=tasks[0], seed=seed) for seed in range(SPLITS)]
    costs = lab.take_costs()
    for i, group in enumerate(row["group"] for row in splits[0]["groups"]):
        rows = [split["groups"][i] for split in splits]
        accuracy = [100 * row["accuracy"] for row in rows]
        margin = [row["margin"] / row["heads"] for row in rows]
        paper_accuracy, paper_margin, paper_heads = numbers.VOTES[group]
        for column, values, paper in (
            ("accuracy, %", accuracy, paper_accuracy),
            ("voting margin per head", margin, round(paper_margin / paper_heads, 3)),
        ):
            ours = float(np.mean(values))
            result.cells.append(Cell(group, column, ours, (min(values), max(values)), paper, seconds=costs))
    result.figures["table6.svg"] = votes_figure(splits[0])
    result.data["splits"] = splits
    top, chance = (next(c.ours or 0.0 for c in result.cells if c.row == row) for row in ("top", "random"))
    result.findings.append(f"Top heads vote {top - chance:+.2f} points against random ones.")


def table7(lab: Lab, result: Result) -> None:
    """What each recipe trains, counted from the adapter itself; at full size no weights are needed."""
    models: dict[str, Any] = {"pi0": configs.pi0(), "pi05": configs.pi05(), "ours": lab.base.config}
    for model, config in models.items():
        name, m = numbers.MODELS.get(model, "our base"), lab.heads() if model == "ours" else numbers.HEADS
        for recipe in ("steering", "lora", "steering-full", "full"):
            told = explain(config, recipe_by_name(recipe), m)
            paper = numbers.ADAPTER_MIB.get((model, recipe))
            paper = numbers.TABLE5_MIB.get(recipe) if model == "pi05" and paper is None else paper
            mib, trained = told["trainable_mib"], told["trainable_parameters"]
            text = f"{mib:,.2f} ({trained:,} parameters)"
            result.cells.append(Cell(recipe, name, mib, None, paper, text, part="All, MiB of float32"))
            if recipe == "steering":
                for entry in told["table"]:
                    text = f"{entry['how']}: {entry['trainable']:,}" if entry["trainable"] else "frozen"
                    part = "Steering, parameters by module"
                    result.cells.append(Cell(entry["module"], name, float(entry["trainable"]), text=text, part=part))
    by_name = {(c.row, c.column): c.ours for c in result.cells}
    for model, printed in numbers.ADAPTER_MIB.items():
        ours = by_name[model[1], numbers.MODELS[model[0]]]
        assert ours is not None  # noqa: S101 (counted above)
        result.findings.append(f"{numbers.MODELS[model[0]]}, {model[1]}: {ours:.2f} MiB, printed {printed:g}.")


def head_maps_of(lab: Lab, result: Result, tasks: tuple[str, ...]) -> None:
    """Scores of all heads per task, the chosen ones framed, a picture of the task above."""
    demos, selections, pictures = lab.settings.demos, {}, {}
    for task in tasks:
        selections[task] = HeadSelection.load(lab.selection("knn", [task], demos))
        dataset = load_dataset(lab.dataset([task], demos))
        pictures[task] = next(iter(dataset.images.values()))[0]
        best = selections[task].heads
        layers = [layer for layer, _ in best]
        text = f"{np.mean(layers):.2f}; best {', '.join(map(str, best[:3]))}"
        result.cells.append(Cell(task, "mean layer of the chosen heads", float(np.mean(layers)), text=text))
        cv = coefficient_of_variation(selections[task].scores)
        result.cells.append(Cell(task, "spread of the scores, σ/μ", cv, seconds=lab.take_costs()))
    result.figures[f"{result.name}.svg"] = head_maps(selections, pictures)
    result.data["selections"] = {task: selection.to_json() for task, selection in selections.items()}


def figure4(lab: Lab, result: Result) -> None:
    """Head maps of the first two tasks."""
    head_maps_of(lab, result, lab.settings.tasks[:2])


def figure8(lab: Lab, result: Result) -> None:
    """Head maps of the other tasks."""
    head_maps_of(lab, result, lab.settings.tasks[2:])


def figure6(lab: Lab, result: Result) -> None:
    """Heads chosen on all of twice the demonstrations, two random halves, the first and the last half."""
    task = lab.settings.tasks[0]
    source = lab.source([task], 2 * lab.settings.demos)
    sizes = {lab.heads(heads): heads for heads in numbers.STABILITY}
    with lab.timed("scores"):
        found = stability(source, lab.knn(), list(sizes))
    costs, panels = lab.take_costs(), {}
    for entry in found["by_m"]:
        matrix, m = 100 * np.array(entry["jaccard"]), entry["m"]
        halves, paper = matrix[0, 1:], numbers.STABILITY[sizes[m]]
        chance = 100 * _chance_jaccard(m, lab.candidates())
        every = matrix[np.triu_indices(len(matrix), 1)]
        for row, values in ((f"best {m} heads, halves against all", halves), (f"best {m} heads, every pair", every)):
            interval = (float(values.min()), float(values.max()))
            paper_here = paper if row.endswith("pair") else None
            cell = Cell(row, "Jaccard, %", float(values.mean()), interval, paper_here, seconds=costs)
            result.cells.append(cell)
        panels[f"best {m} heads, Jaccard %"] = (found["names"], entry["jaccard"])
        result.findings.append(f"Best {m}: two random sets of that size would share {chance:.0f} %.")
    result.figures["fig6.svg"] = matrices(panels)
    result.data["stability"] = found


def figure7(lab: Lab, result: Result) -> None:
    """Heads that tasks share."""
    demos = lab.settings.demos
    chosen = {task: HeadSelection.load(lab.selection("knn", [task], demos)) for task in lab.settings.tasks}
    found = overlap(chosen)
    matrix = 100 * np.array(found["jaccard"])
    pairs = [(a, b) for a in range(len(matrix)) for b in range(a)]
    values = [float(matrix[a, b]) for a, b in pairs]
    costs = lab.take_costs()
    span = (min(values), max(values))
    row = f"{len(pairs)} pairs of tasks, best {lab.heads()} heads"
    result.cells.append(Cell(row, "Jaccard, %", float(np.mean(values)), span, numbers.OVERLAP, seconds=costs))
    for (a, b), value in zip(pairs, values, strict=True):
        result.cells.append(Cell(f"{found['names'][b]} · {found['names'][a]}", "Jaccard, %", value))
    result.figures["fig7.svg"] = matrices({"shared heads, Jaccard %": (found["names"], found["jaccard"])})
    result.data["overlap"] = found
    chance = 100 * _chance_jaccard(lab.heads(), lab.candidates())
    result.findings.append(f"Two random sets of that size would share {chance:.0f} %.")


def _chance_jaccard(m: int, total: int) -> float:
    """Jaccard index of two sets of m among `total` that share as many as chance has them share, m² / total."""
    shared = m * m / total
    return shared / (2 * m - shared)
