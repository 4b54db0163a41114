"""A dataset of scripted demonstrations without ROS: the environment's expert into the ordinary store."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from robosteer_rig.environment import Environment, Scene, make_environment
from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import Rig, parse_rig
from robosteer_training.dataset import DATASET_FILE, DATASET_SCHEMA, EPISODE_SCHEMA, META_FILE, EpisodeMeta
from robosteer_training.episode_writer import EpisodeWriter, new_directory
from robosteer_training.evaluation.scenes import GRID_CELLS
from robosteer_training.files import json_digest, write_json
from robosteer_training.interrupt import enter_worker, interrupts_held
from robosteer_training.keyframes import Selection

FIRST_SEED = 5_000_000
"""Far from the seeds of evaluations, whose scenes must be new to the policy."""
TRIES = 3


def demonstration_scene(task: str, number: int) -> Scene:
    """The n-th demonstration of a task: every cell once before any cell twice, in an order that spreads them."""
    order = np.random.default_rng(number // GRID_CELLS).permutation(GRID_CELLS)
    return Scene(task, int(order[number % GRID_CELLS]), FIRST_SEED + number)


def make_dataset(
    path: Path,
    store: Path,
    rig: Rig,
    tasks: Sequence[str],
    count: int,
    *,
    environment: str = "cell",
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Demonstrate `count` times for every task; episodes that the store holds are not made again.

    A demonstration that fails is replaced by the next scene, as an operator would.

    Args:
        path: the dataset; its episodes are a link to the store, which datasets share.
        store: directory of episodes.
        rig: contract of the environment.
        tasks: instructions.
        count: demonstrations per task.
        environment: name in the entry-point group `robosteer.environments`.
        jobs: worker processes.
        progress: called with (episodes done, episodes).

    Raises:
        RobosteerError: a task that the environment does not know, or that its expert cannot do.
    """
    store.mkdir(parents=True, exist_ok=True)
    episodes: list[str] = []
    for number, task in enumerate(tasks):
        numbers = iter(range(TRIES * count))
        good: list[str] = []
        while len(good) < count:
            scenes = [demonstration_scene(task, n) for n in itertools.islice(numbers, count - len(good))]
            if not scenes:
                raise RobosteerError(
                    f"{task}: found {len(good)} good demonstrations in {TRIES * count}, expected {count}"
                )
            work = [(environment, rig.to_yaml(), scene, str(store)) for scene in scenes]
            good += [key for key in _demonstrate_all(work, jobs) if key is not None]
            if progress is not None:
                progress(number * count + len(good), len(tasks) * count)
        episodes += good
    path.mkdir(parents=True, exist_ok=True)
    link = path / "episodes"
    if not link.is_symlink():
        link.symlink_to(os.path.relpath(store, path), target_is_directory=True)
    content = {
        "schema": DATASET_SCHEMA,
        "rig": rig.to_yaml(),
        "rig_digest": rig.digest(),
        "rate_hz": rig.action.rate_hz,
        "cameras": list(dict.fromkeys(rig.policy_cameras.values())),
        "episodes": episodes,
        "selection": dataclasses.asdict(Selection()),
    }
    write_json(path / DATASET_FILE, content)


_Work = tuple[str, str, Scene, str]


def _demonstrate_all(work: list[_Work], jobs: int) -> list[str | None]:
    if jobs == 1:
        return [_demonstrate(item) for item in work]
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(work)), mp_context=context, initializer=enter_worker)
    try:
        with interrupts_held():
            futures = [pool.submit(_demonstrate, item) for item in work]
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_environments: dict[tuple[str, str], Environment] = {}


def _demonstrate(work: _Work) -> str | None:
    """Make one episode; returns its key in the store, or None when the expert failed."""
    name, text, scene, store = work
    rig = parse_rig(text)
    key = json_digest(["scripted/1", name, rig.digest(), dataclasses.asdict(scene)])[:32]
    final = Path(store) / key
    if (final / META_FILE).exists():
        return key
    if (name, text) not in _environments:
        _environments[name, text] = make_environment(name, rig)
    with contextlib.suppress(_ExpertFailed), new_directory(final) as directory:
        _record(_environments[name, text], rig, scene, key, directory)
        return key
    return None


class _ExpertFailed(Exception):
    """Nothing is kept of a demonstration that failed."""


def _record(environment: Environment, rig: Rig, scene: Scene, key: str, directory: Path) -> None:
    writer = EpisodeWriter(directory, rig, tuple(dict.fromkeys(rig.policy_cameras.values())))
    actions: list[np.ndarray] = []
    try:
        for frame, action in environment.demonstrate(scene):
            writer.append(frame)
            actions.append(np.append(action[:7] / rig.action.unit_rad_per_s, action[7]).astype(np.float32))
        if not environment.success:
            raise _ExpertFailed
        meta = EpisodeMeta(
            schema=EPISODE_SCHEMA,
            key=key,
            source=f"scripted/cell{scene.grid_cell:02d}_seed{scene.seed}",
            instruction=scene.task,
            outcome="success",
            frames=len(actions),
            trimmed=(0, 0),
            stale_frames=0,
            stream_counts={},
            max_age_s={},
            bag_sha256="",
        )
        writer.finish(np.stack(actions), slice(0, len(actions)), meta)
    finally:
        writer.close()
