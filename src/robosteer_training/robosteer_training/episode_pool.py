"""Run conversions one after the other or in worker processes; Ctrl-C stops them within a few messages."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING

from robosteer_rig.bags import bag_files
from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import Rig
from robosteer_training.convert_episode import Cancelled, ConvertSettings, convert_episode
from robosteer_training.episode_writer import new_directory
from robosteer_training.episodes import EpisodeInfo
from robosteer_training.interrupt import enter_worker, interrupts_held

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

    from rich.progress import Progress


@dataclasses.dataclass(frozen=True)
class EpisodeJob:
    """One episode that is not in the store yet, as sent to a worker process."""

    info: EpisodeInfo
    final: Path
    bag_sha256: str
    rig: Rig
    settings: ConvertSettings


def run_jobs(
    work: list[EpisodeJob], jobs: int, progress: Progress | None
) -> Iterator[tuple[EpisodeJob, RobosteerError | None]]:
    """Convert everything, yielding each episode as it is done with what was wrong with it."""
    sizes = [sum(file.stat().st_size for file in bag_files(job.info.bag_path)) for job in work]
    task = None
    if progress is not None:
        progress.start()
        task = progress.add_task("convert", total=max(sum(sizes), 1))
    outcomes = _in_this_process(work) if min(jobs, len(work)) <= 1 else _in_processes(work, min(jobs, len(work)))
    # Closing at once, also after Ctrl-C, stops the workers before the traceback is let go.
    with contextlib.closing(outcomes):
        for index, error in outcomes:
            if progress is not None and task is not None:
                progress.advance(task, sizes[index])
            yield work[index], error
    if progress is not None and task is not None:
        progress.update(task, completed=max(sum(sizes), 1))


def _convert(job: EpisodeJob, cancelled: Callable[[], bool]) -> RobosteerError | None:
    """Convert one episode; what the user can fix is returned, so that it crosses processes as plain data."""
    try:
        with new_directory(job.final) as directory:
            convert_episode(
                job.info,
                directory,
                job.rig,
                job.settings,
                key=job.final.name,
                bag_sha256=job.bag_sha256,
                cancelled=cancelled,
            )
    except RobosteerError as error:
        return RobosteerError(str(error))
    return None


_Outcomes = Generator[tuple[int, RobosteerError | None], None, None]


def _in_this_process(work: list[EpisodeJob]) -> _Outcomes:
    for index, job in enumerate(work):
        yield index, _convert(job, lambda: False)


def _in_processes(work: list[EpisodeJob], jobs: int) -> _Outcomes:
    # A forked child would inherit the threads' locks of numpy, JAX or DDS in whatever state they are.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_enter_worker, initargs=(stop,))
    try:
        with interrupts_held():
            futures = {pool.submit(_convert_in_worker, job): index for index, job in enumerate(work)}
        for future in as_completed(futures):
            index = futures[future]
            yield index, _result(future, work[index])
    finally:
        stop.set()  # After Ctrl-C the workers give up within a few messages and remove what they began.
        pool.shutdown(wait=True, cancel_futures=True)


def _result(future: Future[RobosteerError | None], job: EpisodeJob) -> RobosteerError | None:
    try:
        return future.result()
    except BrokenProcessPool:
        return RobosteerError(
            f"{job.info.path}: found its worker process killed, expected it to finish; free memory or use --jobs 1"
        )


_worker_cancelled: Callable[[], bool] = bool  # Replaced in worker processes; bool() is False.


def _enter_worker(stop: Event) -> None:
    global _worker_cancelled  # A pool hands its workers an event in no other way.
    enter_worker()
    _worker_cancelled = stop.is_set


def _convert_in_worker(job: EpisodeJob) -> RobosteerError | None:
    try:
        return _convert(job, _worker_cancelled)
    except Cancelled:
        return RobosteerError(f"{job.info.path}: found the conversion interrupted, expected it to finish; run it again")
