"""Evaluation of a checkpoint over many scenes, in parallel, each trial independent of every other."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import Progress

from robosteer_model.checkpoint import load_checkpoint
from robosteer_model.policy import Policy
from robosteer_rig.environment import Environment, Scene, make_environment
from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import Rig, load_rig
from robosteer_training.evaluation.rollout import Trial, run_trial
from robosteer_training.evaluation.statistics import describe_rate, wilson_interval

GRID_CELLS = 40


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """All trials of one checkpoint.

    Attributes:
        checkpoint: its path, as given.
        trials: in the order of the scenes.
    """

    checkpoint: str
    trials: tuple[Trial, ...]

    @property
    def successes(self) -> int:
        """Number of successful trials."""
        return sum(t.success for t in self.trials)

    def describe(self) -> str:
        """Rate with its 95 % Wilson interval, for people."""
        return describe_rate(self.successes, len(self.trials))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        low, high = wilson_interval(self.successes, len(self.trials))
        return {
            "schema": "robosteer.evaluation/1",
            "checkpoint": self.checkpoint,
            "successes": self.successes,
            "trials": len(self.trials),
            "rate": self.successes / len(self.trials),
            "wilson_95": [low, high],
            "results": [dataclasses.asdict(t) for t in self.trials],
        }


def grid_scenes(task: str, cells: Sequence[int], seed: int) -> list[Scene]:
    """One scene per grid cell; the same (task, cells, seed) always gives the same scenes."""
    for cell in cells:
        if not 0 <= cell < GRID_CELLS:
            raise RobosteerError(f"grid cell: found {cell}, expected 0 to {GRID_CELLS - 1}")
    return [Scene(task, int(cell), seed * 10_007 + int(cell)) for cell in cells]


@dataclasses.dataclass
class _Worker:
    """What a worker process keeps between trials: loading and compiling happen once."""

    policy: Policy
    environment: Environment
    rig: Rig
    noise_shape: tuple[int, int]
    execute_steps: int
    time_limit_s: float


_worker: _Worker | None = None


def _start_worker(checkpoint: str, rig_path: str, environment: str, execute_steps: int, time_limit_s: float) -> None:
    global _worker
    rig = load_rig(rig_path)
    loaded = load_checkpoint(checkpoint)
    shape = (loaded.config.action_horizon, loaded.config.action_dim)
    _worker = _Worker(Policy(loaded), make_environment(environment, rig), rig, shape, execute_steps, time_limit_s)


def _run(scene: Scene) -> Trial:
    if _worker is None:
        raise RuntimeError("worker was not started")
    w = _worker
    return run_trial(
        w.policy,
        w.environment,
        scene,
        w.rig,
        w.noise_shape,
        execute_steps=w.execute_steps,
        time_limit_s=w.time_limit_s,
    )


def evaluate(
    checkpoint: Path,
    rig_path: Path,
    scenes: Sequence[Scene],
    *,
    environment: str = "cell",
    execute_steps: int = 5,
    time_limit_s: float = 10.0,
    jobs: int = 2,
) -> Evaluation:
    """Try a checkpoint on every scene.

    Args:
        checkpoint: step directory.
        rig_path: rig file of the environment.
        scenes: starting conditions; each is independent, so the order does not matter.
        environment: name in the entry-point group `robosteer.environments`.
        execute_steps: actions of a chunk executed before the next inference.
        time_limit_s: simulated seconds per trial.
        jobs: worker processes.

    Returns:
        The trials, in the order of `scenes`.
    """
    start = (str(checkpoint), str(rig_path), environment, execute_steps, time_limit_s)
    # Each worker keeps to one core; XLA's own threads would only fight over the same two.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    context = multiprocessing.get_context("spawn")
    with Progress() as progress, context.Pool(min(jobs, len(scenes)), _start_worker, start) as pool:
        bar = progress.add_task(f"evaluate {Path(checkpoint).name}", total=len(scenes))
        trials = []
        for trial in pool.imap(_run, scenes):
            trials.append(trial)
            progress.advance(bar)
    return Evaluation(str(checkpoint), tuple(trials))


def save_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Write the evaluation as JSON, whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(evaluation.to_json(), indent=2) + "\n")
    os.replace(partial, path)
