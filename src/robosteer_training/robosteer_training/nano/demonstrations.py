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
from robosteer_rig.rig import Rig, load_rig
from robosteer_training.nano.config import COLOURS

GRID_CELLS = 40


@dataclasses.dataclass(frozen=True)
class Demonstrations:
    """Frames of many episodes, concatenated.

    Attributes:
        images: (N, 2, s, s, 3) uint8: exterior, wrist.
        state: (N, 8) float32: joint positions in rad, gripper 0...1.
        actions: (N, 8) float32: normalised joint velocities, gripper 0...1.
        cubes: (N, 4, 3) float32 m: position of each colour's cube, NaN where the scene has none.
        episode: (N,) int32, increasing.
        task: (N,) int32 index into `tasks`.
        tasks: the instructions.
    """

    images: np.ndarray
    state: np.ndarray
    actions: np.ndarray
    cubes: np.ndarray
    episode: np.ndarray
    task: np.ndarray
    tasks: tuple[str, ...]


def scenes(tasks: Sequence[str], episodes: int, seed: int) -> list[Scene]:
    """The scenes of a data set: every grid cell equally often, tasks in turn, all from one seed."""
    order = np.random.default_rng(seed).permutation(episodes)
    return [
        Scene(tasks[int(i) % len(tasks)], (int(i) // len(tasks)) % GRID_CELLS, seed * 1_000_003 + int(i)) for i in order
    ]


def _record(environment: Environment, rig: Rig, scene: Scene, disturbance: float) -> dict[str, np.ndarray] | None:
    """One demonstration as arrays, or None when the expert failed (it is left out, as an operator would)."""
    rows: dict[str, list[np.ndarray]] = {"images": [], "state": [], "actions": [], "cubes": []}
    unit = rig.action.unit_rad_per_s
    for frame, action in environment.demonstrate(scene, disturbance=disturbance):
        raw = droid_observation(frame, rig, scene.task)
        positions = environment.object_positions()
        absent = np.full(3, np.nan)
        rows["images"].append(np.stack([raw["observation/exterior_image_1_left"], raw["observation/wrist_image_left"]]))
        rows["state"].append(np.append(frame.joint_position, frame.gripper_position))
        rows["actions"].append(np.append(action[:7] / unit, action[7]))
        rows["cubes"].append(np.stack([positions.get(f"{c} cube", absent) for c in COLOURS]))
    if not environment.success:
        return None
    kinds = {"images": np.uint8}
    return {name: np.stack(values).astype(kinds.get(name, np.float32)) for name, values in rows.items()}


def _make_shard(arguments: tuple[str, str, list[Scene], float, str]) -> int:
    """Worker: record some scenes into one shard file; returns how many demonstrations failed."""
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
    merged = {name: np.concatenate([a[name] for _, a in good]) for name in ("images", "state", "actions", "cubes")}
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
    """
    settings = {"tasks": list(tasks), "episodes": episodes, "disturbance": disturbance, "seed": seed}
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
    return shards


def _chunks(items: list[Scene], size: int) -> Iterator[list[Scene]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def load_demonstrations(shards: Sequence[Path]) -> Demonstrations:
    """Read shards into memory."""
    parts = []
    for shard in shards:
        with np.load(shard) as file:
            parts.append({name: file[name] for name in file.files})
    tasks = tuple(sorted({str(t) for part in parts for t in part["tasks"]}))
    lengths = np.concatenate([part["lengths"] for part in parts])
    task_of_episode = np.array([tasks.index(str(t)) for part in parts for t in part["tasks"]], np.int32)
    return Demonstrations(
        images=np.concatenate([p["images"] for p in parts]),
        state=np.concatenate([p["state"] for p in parts]),
        actions=np.concatenate([p["actions"] for p in parts]),
        cubes=np.concatenate([p["cubes"] for p in parts]),
        episode=np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
        task=np.repeat(task_of_episode, lengths),
        tasks=tasks,
    )
