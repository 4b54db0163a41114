"""Scripted demonstrations for pretraining, made in worker processes and kept as shards that are never made twice."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.progress import Progress

from robosteer_rig.droid import observation as droid_observation
from robosteer_rig.environment import Environment, Scene, make_environment
from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import Rig, load_rig
from robosteer_training.nano.config import OBJECTS

GRID_CELLS = 40
RANDOMISED_EVERY = 4
"""One scene of so many has random light, colours and camera places."""
_ARRAYS = ("images", "state", "actions", "objects")


@dataclasses.dataclass(frozen=True)
class Demonstrations:
    """Frames of many episodes, concatenated.

    Attributes:
        images: (N, 2, s, s, 3) uint8: exterior, wrist.
        state: (N, 8) float32: joint positions in rad, gripper 0...1.
        actions: (N, 8) float32: normalised joint velocities, gripper 0...1.
        objects: (N, K, 3) float32 m: where each of `config.OBJECTS` is, NaN where the scene has none.
        episode: (N,) int32, increasing.
        task: (N,) int32 index into `tasks`.
        tasks: the instructions.
    """

    images: np.ndarray
    state: np.ndarray
    actions: np.ndarray
    objects: np.ndarray
    episode: np.ndarray
    task: np.ndarray
    tasks: tuple[str, ...]


def scenes(tasks: Sequence[str], episodes: int, seed: int) -> list[Scene]:
    """The scenes of a data set: every grid cell equally often, tasks in turn, all from one seed."""
    order = np.random.default_rng(seed).permutation(episodes)
    return [_scene(tasks, int(i), seed) for i in order]


def _scene(tasks: Sequence[str], number: int, seed: int) -> Scene:
    """A scene of a data set, before they are mixed."""
    turn = number // len(tasks)
    # From one round over the grid to the next, other cells are the randomised ones.
    randomised = (turn + turn // GRID_CELLS) % RANDOMISED_EVERY == 0
    variation = "randomised" if randomised else ""
    return Scene(tasks[number % len(tasks)], turn % GRID_CELLS, seed * 1_000_003 + number, variation)


def _record(environment: Environment, rig: Rig, scene: Scene, disturbance: float) -> dict[str, np.ndarray] | None:
    """One demonstration as arrays, or None when the expert failed (it is left out, as an operator would)."""
    rows: dict[str, list[np.ndarray]] = {name: [] for name in _ARRAYS}
    unit = rig.action.unit_rad_per_s
    for frame, action in environment.demonstrate(scene, disturbance=disturbance):
        raw = droid_observation(frame, rig, scene.task)
        positions = environment.object_positions()
        absent = np.full(3, np.nan)
        rows["images"].append(np.stack([raw["observation/exterior_image_1_left"], raw["observation/wrist_image_left"]]))
        rows["state"].append(np.append(frame.joint_position, frame.gripper_position))
        rows["actions"].append(np.append(action[:7] / unit, action[7]))
        rows["objects"].append(np.stack([positions.get(name, absent) for name in OBJECTS]))
    if not environment.success:
        return None
    kinds = {"images": np.uint8}
    return {name: np.stack(values).astype(kinds.get(name, np.float32)) for name, values in rows.items()}


def _make_shard(arguments: tuple[str, str, list[Scene], float, str]) -> int:
    """Worker: record some scenes into one shard file, none if all fail; returns how many demonstrations failed."""
    environment_name, rig_path, shard_scenes, disturbance, target = arguments
    if Path(target).exists():
        return 0
    rig = load_rig(rig_path)
    environment = make_environment(environment_name, rig)
    try:
        recorded = [(scene, _record(environment, rig, scene, disturbance)) for scene in shard_scenes]
    finally:
        environment.close()
    good = [(scene, arrays) for scene, arrays in recorded if arrays is not None]
    if not good:
        return len(recorded)
    merged = {name: np.concatenate([a[name] for _, a in good]) for name in _ARRAYS}
    lengths = np.array([len(arrays["state"]) for _, arrays in good], np.int32)
    names = np.array([scene.task for scene, _ in good])
    partial = f"{target}.partial"
    with open(partial, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, lengths=lengths, tasks=names, **merged)
    os.replace(partial, target)
    return len(recorded) - len(good)


def make_demonstrations(
    directory: Path,
    rig_path: Path,
    tasks: Sequence[str],
    episodes: int,
    *,
    disturbance: float,
    seed: int,
    jobs: int,
    environment: str = "cell",
) -> list[Path]:
    """Record demonstrations in `jobs` processes; shards that exist already are kept.

    Args:
        directory: where shards go; its name gets a digest of the settings, so settings never mix.
        rig_path: the rig file of the environment.
        tasks: instructions to demonstrate, in turn.
        episodes: how many demonstrations to try.
        disturbance: pushes on the joints that the expert corrects, rad/s.
        seed: seed of everything.
        jobs: worker processes.
        environment: name in the entry-point group `robosteer.environments`.

    Returns:
        The shard files, in order.

    Raises:
        RobosteerError: no demonstration succeeded.
    """
    settings = {"tasks": list(tasks), "episodes": episodes, "disturbance": disturbance, "seed": seed}
    settings |= {"objects": list(OBJECTS), "randomised_every": RANDOMISED_EVERY}
    settings["rig"] = load_rig(rig_path).digest()
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    target = directory / digest
    target.mkdir(parents=True, exist_ok=True)
    chunks = list(_chunks(scenes(tasks, episodes, seed), 8))
    shards = [target / f"{i:04d}.npz" for i in range(len(chunks))]
    work = [
        (environment, str(rig_path), chunk, disturbance, str(shard))
        for chunk, shard in zip(chunks, shards, strict=True)
        if not shard.exists()
    ]
    with Progress() as progress, multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=16) as pool:
        bar = progress.add_task("demonstrations", total=len(chunks), completed=len(chunks) - len(work))
        failed = 0
        for count in pool.imap_unordered(_make_shard, work):
            failed += count
            progress.advance(bar)
    print(f"{episodes} demonstrations tried, {failed} failed in this run and are left out")
    made = [shard for shard in shards if shard.exists()]
    if not made:
        raise RobosteerError(
            f"demonstrations: found {failed} of {episodes} failed, expected some to succeed; is {rig_path} this "
            "environment's rig?"
        )
    return made


def _chunks(items: list[Scene], size: int) -> Iterator[list[Scene]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def load_demonstrations(shards: Sequence[Path]) -> Demonstrations:
    """Read shards into memory."""
    lengths = np.concatenate([_part(shard, "lengths") for shard in shards])
    names = [str(name) for shard in shards for name in _part(shard, "tasks")]
    tasks = tuple(sorted(set(names)))
    arrays = {name: _joined(shards, name, int(lengths.sum())) for name in _ARRAYS}
    return Demonstrations(
        **arrays,
        episode=np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
        task=np.repeat(np.array([tasks.index(name) for name in names], np.int32), lengths),
        tasks=tasks,
    )


def _part(shard: Path, name: str) -> np.ndarray:
    with np.load(shard) as file:
        return file[name]


def _joined(shards: Sequence[Path], name: str, frames: int) -> np.ndarray:
    """One array of all shards, filled in place: twice the images would not fit everywhere."""
    first = _part(shards[0], name)
    whole = np.empty((frames, *first.shape[1:]), first.dtype)
    start = 0
    for shard in shards:
        part = _part(shard, name)
        whole[start : start + len(part)] = part
        start += len(part)
    return whole
