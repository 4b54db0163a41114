"""`robosteer heads select`: choose heads by one of seven methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_training.commands.heads_common import (
    ReadsCache,
    names_of,
    open_source,
)
from robosteer_training.commands.progress import progress

if TYPE_CHECKING:
    from robosteer_training.heads.selection import HeadSelection
    from robosteer_training.heads.source import Source

Method = Literal["knn", "cma", "reinforce", "classify", "random", "worst", "all"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Select(ReadsCache):
    """Choose heads.

    knn, worst and all read the cache only, as do classify (needs two tasks or outcomes) and random. cma and reinforce
    run the model, and need --dataset and --base, which must be those of the cache.
    """

    out: Path
    """Selection file to write (JSON); with --per-task one file per task, named after it."""
    method: Method = "knn"
    """How heads are chosen: k-NN regression of the actions; causal ablation by noise; learned masks; telling tasks
    apart; and the controls (by chance, the worst by k-NN, all)."""
    joint: bool = False
    """Several tasks: choose one set on all of them."""
    per_task: bool = False
    """Several tasks: choose one set for each."""
    disjoint: bool = False
    """With --per-task: no head belongs to two tasks."""
    seed: int = 0
    """random, cma, reinforce: seed of what is drawn."""
    positive: str | None = None
    """classify: the instruction (or outcome) to tell from the others; may be left out where there are two."""
    by: Literal["task", "outcome"] = "task"
    """classify: what the classes are."""
    dataset: Path | None = None
    """cma, reinforce: the dataset of the cache."""
    base: Path | None = None
    """cma, reinforce: the checkpoint of the cache."""
    action_tokens: str | None = None
    """cma, reinforce on pi0-FAST: the action tokenizer as MODULE:NAME."""
    frames: int = 128
    """cma, reinforce: frames to run on, evenly spread."""
    noise_scale: float = 1.0
    """cma: deviation of the noise, in deviations of the head's own output."""
    draws: int = 2
    """cma: draws of the noise per head, and of flow noise and time per frame."""
    steps: int = 600
    """reinforce: updates."""
    masks: int = 32
    """reinforce: masks per update."""
    batch: int = 8
    """reinforce: frames per update; cma: frames per pass."""
    num_steps: int = 10
    """reinforce: denoising steps of the sampled actions."""

    def run(self) -> tuple[str, dict[str, Any]]:
        """Select and save."""
        source = open_source(self.cache)
        self._check()
        select = self._selector(source)
        tasks = {name: rows for name, rows in source.task_rows().items() if len(rows)}
        if self.per_task:
            return self._each_task(source, tasks, select)
        if len(tasks) > 1 and not self.joint and self.method != "classify":
            raise RobosteerError(
                f"tasks: found {len(tasks)} ({', '.join(map(repr, tasks))}), expected --joint (one set for all) or "
                "--per-task (a set for each); choose one"
            )
        selection = select(self.out, None)
        selection.save(self.out)
        return _told(self.out, selection, source), selection.to_json()

    def _check(self) -> None:
        if self.per_task and self.joint:
            raise RobosteerError("select: found --per-task and --joint, expected one of them")
        if self.disjoint and not self.per_task:
            raise RobosteerError("--disjoint: found without --per-task, expected both; add --per-task")
        if self.per_task and self.method == "classify":
            raise RobosteerError("--per-task: found with classify, which compares tasks; give --positive instead")

    def _each_task(
        self,
        source: Source,
        tasks: dict[str, np.ndarray],
        select: Callable[[Path, np.ndarray | None], HeadSelection],
    ) -> tuple[str, dict[str, Any]]:
        from robosteer_training.heads.tasks import make_disjoint, slug

        if "" in tasks:
            raise RobosteerError("tasks: found a cache that does not know its tasks; run `robosteer heads cache` again")
        paths = {task: self.out.with_name(f"{self.out.stem}.{slug(task)}{self.out.suffix}") for task in tasks}
        if len(set(paths.values())) != len(paths):
            raise RobosteerError(f"tasks: found instructions that give one file name, {sorted(paths)}; rename one")
        chosen = {task: select(paths[task], rows) for task, rows in tasks.items()}
        chosen = make_disjoint(chosen) if self.disjoint else chosen
        for task, selection in chosen.items():
            selection.save(paths[task])
        text = "\n".join(f"{task}\n  {_told(paths[task], s, source)}" for task, s in chosen.items())
        return text, {task: selection.to_json() | {"path": str(paths[task])} for task, selection in chosen.items()}

    def _selector(self, source: Source) -> Callable[[Path, np.ndarray | None], HeadSelection]:
        """A function (result's path, rows or None) -> selection."""
        from robosteer_training.heads import select as plain
        from robosteer_training.heads.classify import select_by_classification

        settings = self.settings()
        if self.method in ("cma", "reinforce"):
            return self._by_running(source)
        if self.method == "random":
            return lambda _, rows: plain.select_random(source, settings, self.seed, rows=rows)
        if self.method == "classify":

            def told_apart(_path: Path, _rows: np.ndarray | None) -> HeadSelection:
                with progress("votes") as report:
                    return select_by_classification(source, settings, report, positive=self.positive, by=self.by)

            return told_apart
        method = {"knn": plain.select_by_knn, "worst": plain.select_worst, "all": plain.select_all}[self.method]

        def scored(_path: Path, rows: np.ndarray | None) -> HeadSelection:
            with progress("scores") as report:
                return method(source, settings, report, rows=rows)

        return scored

    def _by_running(self, source: Source) -> Callable[[Path, np.ndarray | None], HeadSelection]:
        from robosteer_training.action_tokens import load_action_tokens
        from robosteer_training.heads.by_running import RunSettings, select_by_running
        from robosteer_training.heads.cma import CmaSettings
        from robosteer_training.heads.edited_loss import LossSettings
        from robosteer_training.heads.reinforce import ReinforceSettings

        if self.dataset is None or self.base is None:
            raise RobosteerError(f"{self.method}: found no --dataset or --base, expected both, to run the model")
        dataset, base, tokens = self.dataset, self.base, load_action_tokens(self.action_tokens)
        by_cma = self.method == "cma"
        run = RunSettings(
            method="cma" if by_cma else "reinforce",
            loss=LossSettings(
                self.stream, "flow" if by_cma else "actions", self.draws if by_cma else 1, self.num_steps, self.seed
            ),
            cma=CmaSettings(self.noise_scale, self.draws, self.frames, self.batch),
            reinforce=ReinforceSettings(self.steps, self.masks, self.batch, seed=self.seed),
            frames=self.frames,
        )

        def measured(path: Path, rows: np.ndarray | None) -> HeadSelection:
            with progress(self.method) as report:
                return select_by_running(
                    source, self.settings(), run, dataset, base, tokens, rows=rows, path=path, progress=report
                )

        return measured


def _told(path: Path, selection: HeadSelection, source: Source) -> str:
    """What was chosen, and what to know about it."""
    from robosteer_training.heads.selection import dead_heads_warning

    k = "" if selection.k is None else f", k = {selection.k}"
    lines = [f"{path}: {selection.m} of {selection.scores.size} heads{k}: {names_of(selection.heads)}"]
    if dropped := selection.settings.get("dropped_ks"):
        lines.append(f"k of {dropped} exceed the neighbours available and were left out")
    if warning := dead_heads_warning(selection.heads, source.config):
        lines.append(f"warning: {warning}")
    return "\n".join(lines)
