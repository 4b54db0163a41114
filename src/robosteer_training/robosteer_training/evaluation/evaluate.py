"""Evaluation of a checkpoint over many scenes, in parallel, each trial independent of every other."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from robosteer_rig.environment import Scene, check_scenes, task_digest
from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import Rig
from robosteer_training.evaluation.journal import Journal
from robosteer_training.evaluation.result import Evaluation, card_name
from robosteer_training.evaluation.rollout import Manner, Trial
from robosteer_training.evaluation.workers import Job, run_in_processes

Executor = Literal["processes", "ray"]


@dataclasses.dataclass(frozen=True)
class EvaluateSettings:
    """How a checkpoint is evaluated.

    Attributes:
        environment: name in the entry-point group `robosteer.environments`.
        manner: how the policy is run.
        num_steps: denoising steps.
        jobs: workers.
        executor: processes of this machine, or actors of a Ray cluster.
        films: directory for films of failures; None for none.
    """

    environment: str = "cell"
    manner: Manner = dataclasses.field(default_factory=Manner)
    num_steps: int = 10
    jobs: int = 2
    films: Path | None = None
    executor: Executor = "processes"

    def __post_init__(self) -> None:
        for name, value in {"jobs": self.jobs, "num-steps": self.num_steps}.items():
            if value < 1:
                raise RobosteerError(f"--{name}: found {value}, expected at least 1")
        if self.manner.execute_steps < 1:
            raise RobosteerError(f"--execute-steps: found {self.manner.execute_steps}, expected at least 1")
        if self.manner.time_limit_s is not None and not self.manner.time_limit_s > 0:
            raise RobosteerError(f"--time-limit-s: found {self.manner.time_limit_s}, expected more than 0")


def evaluate(
    checkpoint: Path,
    rig: Rig,
    scenes: Sequence[Scene],
    settings: EvaluateSettings = EvaluateSettings(),
    *,
    out: Path | None = None,
    resume: bool = False,
) -> Evaluation:
    """Try a checkpoint on every scene.

    The outcome of a trial depends on the policy and the scene alone, so neither the number of workers nor their order
    changes it.

    Args:
        checkpoint: step directory.
        rig: contract of the environment.
        scenes: starting conditions.
        settings: how.
        out: result file; trials are kept beside it as they finish.
        resume: take over the trials that are kept there, finished or not.

    Returns:
        The trials by task, variation, seed and cell; with `resume` also those that only an earlier run asked for.

    Raises:
        RobosteerError: a scene that the environment does not know, a checkpoint that does not fit, trials of another
            task card; see also `Journal`.
    """
    check_scenes(settings.environment, scenes)
    cards = {task: task_digest(settings.environment, task) for task in {scene.task for scene in scenes}}
    conditions, policy = identity(checkpoint, rig, settings)
    journal = None if out is None else Journal(out, {**conditions, **policy}, resume=resume)
    known = dict(journal.known) if journal else {}
    for trial in known.values():
        _check_card(trial, cards, f"the trials kept for {out}")
    missing = [scene for scene in scenes if scene not in known]
    job = Job(
        str(checkpoint),
        rig.to_yaml(),
        settings.environment,
        settings.manner,
        settings.num_steps,
        None if settings.films is None else str(settings.films.absolute()),
    )
    seconds, last = journal.seconds if journal else 0.0, time.monotonic()
    with (
        progress(f"evaluate {checkpoint.name}", len(scenes), len(scenes) - len(missing)) as advance,
        contextlib.closing(_run(job, missing, settings)) as trials,
    ):
        for trial in trials:
            _check_card(trial, cards, "a worker")
            now = time.monotonic()
            spent, last = now - last, now
            seconds += spent
            known[trial.scene] = trial
            if journal is not None:
                journal.add(trial, spent)
            advance(trial)
    result = Evaluation(
        str(checkpoint), conditions, policy, tuple(known[s] for s in sorted(known, key=_order)), seconds
    )
    if out is not None and journal is not None:
        result.save(out)
        journal.close()
    return result


def _check_card(trial: Trial, cards: Mapping[str, str | None], where: str) -> None:
    """Refuse a trial of a task that another card describes."""
    task = trial.scene.task
    if task in cards and trial.card != cards[task]:
        raise RobosteerError(
            f"evaluate: task card of {task!r}: found {card_name(trial.card)} in {where}, expected "
            f"{card_name(cards[task])}; give another --out, or the card that was used"
        )


def _run(job: Job, scenes: Sequence[Scene], settings: EvaluateSettings) -> Generator[Trial, None, None]:
    if settings.executor == "processes":
        return run_in_processes(job, scenes, settings.jobs)
    from robosteer_training.evaluation.on_ray import run_on_ray

    return run_on_ray(job, scenes, settings.jobs)


def _order(scene: Scene) -> tuple[str, str, int, int]:
    return scene.task, scene.variation, scene.seed, scene.grid_cell


def identity(checkpoint: Path, rig: Rig, settings: EvaluateSettings) -> tuple[dict[str, Any], dict[str, Any]]:
    """What comparable runs share, and what the policy is, wherever it lies.

    Raises:
        RobosteerError: more steps to execute than the policy gives.
    """
    from robosteer_model.checkpoint import load_checkpoint
    from robosteer_model.digest import inputs_digest, params_digest

    loaded = load_checkpoint(checkpoint)
    if loaded.config.action_horizon < settings.manner.execute_steps:
        raise RobosteerError(
            f"--execute-steps: found {settings.manner.execute_steps}, expected at most the checkpoint's horizon of "
            f"{loaded.config.action_horizon}"
        )
    conditions = {
        "environment": settings.environment,
        "rig_digest": rig.digest(),
        "time_limit_s": settings.manner.time_limit_s,
    }
    policy = {
        "digest": params_digest(loaded.params),
        "inputs_digest": inputs_digest(loaded),
        "execute_steps": settings.manner.execute_steps,
        "num_steps": settings.num_steps,
    }
    return conditions, policy


@contextlib.contextmanager
def progress(name: str, total: int, done: int) -> Iterator[Callable[[Trial], None]]:
    """A bar with the remaining time and the successes so far; call it with every trial."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bar:
        task, results = bar.add_task(name, total=total, completed=done, note=""), []

        def advance(trial: Trial) -> None:
            results.append(trial.success)
            bar.update(task, advance=1, note=f"{sum(results)} of {len(results)} succeeded")

        yield advance
