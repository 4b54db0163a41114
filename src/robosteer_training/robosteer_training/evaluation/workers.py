"""Worker processes that try a policy: loading and compiling happen once in each."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING

from robosteer_rig.environment import Scene, make_environment, task_digest
from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import parse_rig
from robosteer_training.evaluation.films import film_name, save_film
from robosteer_training.evaluation.rollout import Manner, Trial, TrialCancelled, run_trial
from robosteer_training.interrupt import enter_worker, interrupts_held

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

    from robosteer_rig.frame import Frame

# Each worker keeps to one core: XLA's threads would fight over the same ones, and sums would depend on their number.
XLA_FLAGS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


@dataclasses.dataclass(frozen=True)
class Job:
    """What every worker needs; plain data, so that it crosses processes and machines.

    Attributes:
        checkpoint: step directory.
        rig: text of the rig file.
        environment: name in the entry-point group `robosteer.environments`.
        manner: how the policy is run.
        num_steps: denoising steps.
        films: directory for films of failures; None for none.
    """

    checkpoint: str
    rig: str
    environment: str
    manner: Manner
    num_steps: int = 10
    films: str | None = None


class Worker:
    """A loaded policy and its cell.

    What they refuse is told with the first scene: raised here, a pool and a cluster would call it a worker's death.
    """

    def __init__(self, job: Job, cancelled: Callable[[], bool] = lambda: False) -> None:
        self._job, self._cancelled = job, cancelled
        self._rig = parse_rig(job.rig)
        self._refusal: str | None = None
        try:
            self._load()
        except Exception as error:
            if not getattr(error, "user_error", False):
                raise
            self._refusal = str(error)

    def _load(self) -> None:
        from robosteer_model.policy import Policy

        job = self._job
        # Always the longest prompt: its padding must not depend on which scenes this worker saw before.
        self._policy = Policy.load(job.checkpoint, num_steps=job.num_steps, full_prompt=True)
        config = self._policy.config
        self._noise_shape = (config.action_horizon, config.action_dim)
        self._environment = make_environment(job.environment, self._rig)

    def run(self, scene: Scene) -> Trial:
        """Try one scene; a failure is filmed, if films are wanted.

        Raises:
            RobosteerError: a checkpoint, environment or scene that cannot be used.
        """
        if self._refusal is not None:
            raise RobosteerError(self._refusal)
        frames: list[Frame] | None = [] if self._job.films is not None else None
        trial = run_trial(
            self._policy,
            self._environment,
            scene,
            self._rig,
            self._noise_shape,
            self._job.manner,
            frames=frames,
            cancelled=self._cancelled,
        )
        # As this worker sees it: another machine of a cluster may have another card.
        trial = dataclasses.replace(trial, card=task_digest(self._job.environment, scene.task))
        if frames is None or self._job.films is None or trial.success:
            return trial
        path = Path(self._job.films) / film_name(scene, trial.failure or "")
        save_film(path, frames, self._rig)
        return dataclasses.replace(trial, film=str(path))


_worker: Worker | None = None


def _start(job: Job, stop: Event) -> None:
    global _worker  # A pool hands its workers their state in no other way.
    enter_worker()
    _worker = Worker(job, stop.is_set)


def _run(scene: Scene) -> Trial | RobosteerError | None:
    if _worker is None:
        raise RuntimeError("worker was not started")
    try:
        return _worker.run(scene)
    except TrialCancelled:
        return None
    except RobosteerError as error:
        return RobosteerError(str(error))


def run_in_processes(job: Job, scenes: Sequence[Scene], jobs: int) -> Generator[Trial, None, None]:
    """Try all scenes in `jobs` processes; trials come as they finish.

    Raises:
        RobosteerError: a scene that the environment refuses; a worker that died.
    """
    if not scenes:
        return
    # A forked child would inherit the threads' locks of numpy, JAX or OpenGL in whatever state they are.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(min(jobs, len(scenes)), mp_context=context, initializer=_start, initargs=(job, stop))
    try:
        with interrupts_held(), _environment_variable("XLA_FLAGS", XLA_FLAGS):
            futures = [pool.submit(_run, scene) for scene in scenes]
        for future in as_completed(futures):
            result = future.result()
            if isinstance(result, RobosteerError):
                raise result
            if result is not None:
                yield result
    except BrokenProcessPool:
        raise RobosteerError(
            "evaluate: found a worker process that died (its message is above), expected it to finish; mend what it "
            "says, or free memory and lower --jobs, then go on with --resume"
        ) from None
    finally:
        stop.set()  # After Ctrl-C the workers give up at their next step.
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _environment_variable(name: str, value: str) -> Iterator[None]:
    """Set a variable for the processes started meanwhile, unless the user has."""
    before = os.environ.get(name)
    os.environ.setdefault(name, value)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
