"""The same workers as actors of a Ray cluster; checkpoint and films lie on a file system that all machines share."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Sequence
from typing import Any

from robosteer_rig.environment import Scene
from robosteer_rig.errors import RobosteerError
from robosteer_training.evaluation.rollout import Trial
from robosteer_training.evaluation.workers import XLA_FLAGS, Job, Worker


def run_on_ray(job: Job, scenes: Sequence[Scene], jobs: int) -> Generator[Trial, None, None]:
    """Try all scenes with `jobs` actors; trials come as they finish.

    A cluster is found as Ray finds it (`RAY_ADDRESS`); without one, Ray starts on this machine.

    Raises:
        RobosteerError: Ray is not installed, or a scene that the environment refuses.
    """
    if not scenes:
        return
    try:
        # Not an ordinary import: type checks must pass without the extra.
        ray: Any = importlib.import_module("ray")
        actor_pool: Any = importlib.import_module("ray.util").ActorPool
    except ImportError as error:
        raise RobosteerError(
            "--executor ray: found no Ray, expected it; install the extra (`uv sync --inexact --extra ray`)"
        ) from error
    started = not ray.is_initialized()
    if started:
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    actor = ray.remote(num_cpus=1, runtime_env={"env_vars": {"XLA_FLAGS": XLA_FLAGS}})(Worker)
    actors = [actor.remote(job) for _ in range(min(jobs, len(scenes)))]
    pool = actor_pool(actors)
    try:
        yield from pool.map_unordered(lambda worker, scene: worker.run.remote(scene), scenes)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RobosteerError):
            raise error.cause from None
        raise
    finally:
        for one in actors:
            ray.kill(one)
        if started:
            ray.shutdown()
