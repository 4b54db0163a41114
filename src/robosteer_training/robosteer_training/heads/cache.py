"""Activation cache: one forward pass per frame, kept as a memory-mapped array.

A cache directory holds `<position>.npy`, float32 (L, F, N, H), the actions and episodes of the frames (`frames.npz`),
and `cache.json`, which says for which checkpoint, dataset and settings, and how many frames are done. Blocks are
flushed before they are counted, so that an interrupted run continues at the last whole block.

Convention: the pass is sampling step 0, that is x = noise at flow time 1. One noise chunk, drawn from the recorded
seed, serves all frames: in pi0.5 the first suffix token is a noisy action, and with noise of their own the frames'
distances would measure the noise. (pi0's first suffix token is the state, pi0-FAST's the piece that opens every answer;
neither depends on the noise.) With several draws the vectors are averaged.
"""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from robosteer_model.config import ModelConfig
from robosteer_model.digest import arrays_digest
from robosteer_rig.errors import RobosteerError
from robosteer_training.files import json_digest, remove, write_json
from robosteer_training.frames import Frames
from robosteer_training.heads.capture import POSITIONS, CacheSettings, capture_program

if TYPE_CHECKING:
    from robosteer_training.dataset import Dataset

__all__ = ["POSITIONS", "ActivationCache", "CacheSettings", "describe_episodes", "fill_cache", "load_cache"]

SCHEMA = "robosteer.activations/2"
META_FILE = "cache.json"
FRAMES_FILE = "frames.npz"


@dataclasses.dataclass(frozen=True)
class ActivationCache:
    """A complete cache.

    Attributes:
        arrays: position -> float32 (L, F, N, H), read-only.
        actions: (F, A) float32, normalised with the checkpoint's statistics.
        episode_index: (F,).
        usable: (F,) bool, see `Frames`.
        meta: the content of `cache.json`.
        frame_index: (F,) frames of the dataset that the rows are.
        path: where it lies.
    """

    arrays: dict[str, np.ndarray]
    actions: np.ndarray
    episode_index: np.ndarray
    usable: np.ndarray
    meta: dict[str, Any]
    frame_index: np.ndarray
    path: Path

    @property
    def config(self) -> ModelConfig:
        """The model whose activations these are."""
        return ModelConfig.from_json(self.meta["model"])

    @property
    def rows(self) -> int:
        """Frames."""
        return int(self.meta["frames"])

    @property
    def mib(self) -> float:
        """MiB of one token position's vectors with the actions beside them, as the paper counts its cache."""
        _, layers, heads, dim = self.meta["shape"]
        return self.rows * (layers * heads * dim + self.meta["action_dim"]) * 4 / 2**20

    @property
    def episodes(self) -> list[dict[str, str]]:
        """Instruction and outcome of every episode of the dataset; empty when they were not recorded."""
        return self.meta["episodes"]

    def at(self, position: str) -> np.ndarray:
        """Vectors (L, F, N, H) of one token position.

        Raises:
            RobosteerError: the cache lacks it.
        """
        if position not in self.arrays:
            raise RobosteerError(
                f"position: found {sorted(self.arrays)} in the cache, expected {position}; "
                f"run `robosteer heads cache --positions {position}`"
            )
        return self.arrays[position]


def describe_episodes(dataset: Dataset) -> list[dict[str, str]]:
    """What a cache remembers of the episodes, so that tasks can be told apart without the dataset."""
    return [
        {"instruction": e.instruction, "outcome": e.outcome, "source": Path(e.source).name} for e in dataset.episodes
    ]


def fill_cache(
    directory: Path,
    params: Any,
    config: ModelConfig,
    frames: Frames,
    settings: CacheSettings,
    *,
    checkpoint_digest: str,
    dataset_digest: str,
    episodes: Sequence[Mapping[str, str]] = (),
    progress: Callable[[int, int], None] | None = None,
) -> ActivationCache:
    """Run the model over every frame, or continue a run that was interrupted.

    Args:
        directory: where the cache lies; a cache of something else that lies there is made anew.
        params: openpi's tree.
        config: the model.
        frames: the data.
        settings: how.
        checkpoint_digest: of the parameters.
        dataset_digest: of the data.
        episodes: see `describe_episodes`.
        progress: called with (frames done, frames).

    Raises:
        RobosteerError: an activation that is no number; a position that the model does not have.
    """
    rows = _rows(frames, settings.stride)
    meta = _new_meta(config, frames, rows, settings, checkpoint_digest, dataset_digest)
    meta["episodes"] = [dict(episode) for episode in episodes]
    capture = capture_program(config, settings, frames)
    arrays = _open_arrays(directory, meta, frames, rows)
    total, block = len(rows), min(settings.block, len(rows))
    for start in range(int(meta["done"]), total, block):
        first = min(start, total - block)
        here = rows[first : first + block]
        for position, values in jax.device_get(capture(params, frames.gather(here))).items():
            _check_finite(values, position, here)
            arrays[position][:, first : first + block] = values
            arrays[position].flush()
        meta["done"] = first + block
        write_json(directory / META_FILE, meta)
        if progress is not None:
            progress(first + block, total)
    return load_cache(directory)


def _rows(frames: Frames, stride: int) -> np.ndarray:
    """Every `stride`-th frame of each episode."""
    first = np.searchsorted(frames.episode_index, frames.episode_index, side="left")
    return np.flatnonzero((np.arange(len(frames)) - first) % stride == 0)


def _new_meta(
    config: ModelConfig, frames: Frames, rows: np.ndarray, settings: CacheSettings, checkpoint: str, dataset: str
) -> dict[str, Any]:
    gemma = config.paligemma
    # Statistics, tokenizer and camera layout of a checkpoint are not among its parameters, but they decide the inputs.
    numbers = {"tokens": frames.tokens, "mask": frames.tokens_mask, "state": frames.state, "actions": frames.actions}
    return {
        "schema": SCHEMA,
        "key": json_digest([checkpoint, dataset, arrays_digest(numbers), sorted(frames.images), settings.to_json()]),
        "checkpoint_digest": checkpoint,
        "dataset_digest": dataset,
        "settings": settings.to_json(),
        "frames": len(rows),
        "action_dim": frames.action_dim,
        "shape": [len(rows), gemma.depth, gemma.num_heads, gemma.head_dim],
        "model": config.to_json(),
        "backend": f"{jax.default_backend()}, jax {jax.__version__}",
        "done": 0,
    }


def _open_arrays(directory: Path, meta: dict[str, Any], frames: Frames, rows: np.ndarray) -> dict[str, np.memmap]:
    """The arrays to write to: those of an unfinished run (`meta["done"]` then says how far), or new ones."""
    found, positions = _read_meta(directory), meta["settings"]["positions"]
    if found is not None and found["key"] == meta["key"]:
        meta["done"] = found["done"]
        return {p: np.load(_path(directory, p), mmap_mode="r+") for p in positions}
    _refuse_foreign(directory)
    remove(directory)
    directory.mkdir(parents=True)
    count, layers, heads, dim = meta["shape"]
    shape = (layers, count, heads, dim)
    arrays = {p: np.lib.format.open_memmap(_path(directory, p), "w+", np.float32, shape) for p in positions}
    columns = {
        "actions": frames.robot_actions[rows],
        "episode_index": frames.episode_index[rows],
        "usable": frames.usable[rows],
        "frame_index": rows,
    }
    np.savez(directory / FRAMES_FILE, allow_pickle=False, **columns)
    write_json(directory / META_FILE, meta)
    return arrays


def _refuse_foreign(directory: Path) -> None:
    """What lies at the cache's place is replaced, so it must be a cache, whole or not, or nothing.

    Raises:
        RobosteerError: naming what is something else.
    """
    if os.path.lexists(directory) and not directory.is_dir():
        raise RobosteerError(f"cache: found a file at {directory}, expected a cache or nothing; choose another --out")
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        if not (path.is_file() and (path.name in (META_FILE, FRAMES_FILE) or path.suffix in (".npy", ".partial"))):
            raise RobosteerError(f"cache: found {path}, expected nothing but a cache there; choose another --out")


def _check_finite(values: np.ndarray, position: str, rows: np.ndarray) -> None:
    if not np.isfinite(values).all():
        layer, row, head = (int(i) for i in np.argwhere(~np.isfinite(values).all(-1))[0])
        raise RobosteerError(
            f"activations: found a non-finite value at {position} in layer {layer}, head {head}, frame {rows[row]}, "
            "expected numbers; check the checkpoint"
        )


def load_cache(directory: Path, *, checkpoint_digest: str | None = None) -> ActivationCache:
    """Open a complete cache.

    Args:
        directory: the cache.
        checkpoint_digest: refuse a cache of another checkpoint.

    Raises:
        RobosteerError: no cache there, an unfinished one, or one of another checkpoint.
    """
    meta = _read_meta(directory)
    if meta is None:
        raise RobosteerError(f"cache: found none in {directory}, expected {META_FILE}; run `robosteer heads cache`")
    if meta["done"] != meta["frames"]:
        raise RobosteerError(
            f"cache: found {meta['done']} of {meta['frames']} frames in {directory}; run `robosteer heads cache` again "
            "to finish it"
        )
    if checkpoint_digest not in (None, meta["checkpoint_digest"]):
        raise RobosteerError(
            f"cache: made with checkpoint {meta['checkpoint_digest'][:12]}, expected {str(checkpoint_digest)[:12]}; "
            "run `robosteer heads cache` with this checkpoint"
        )
    count, layers, heads, dim = meta["shape"]
    try:
        arrays: dict[str, np.ndarray] = {
            p: np.load(_path(directory, p), mmap_mode="r") for p in meta["settings"]["positions"]
        }
        with np.load(directory / FRAMES_FILE, allow_pickle=False) as known:
            columns = {name: known[name] for name in ("actions", "episode_index", "usable", "frame_index")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RobosteerError(
            f"cache: found damaged arrays in {directory} ({error}); delete it and run `robosteer heads cache`"
        ) from error
    bad = [p for p, a in arrays.items() if a.shape != (layers, count, heads, dim) or a.dtype != np.float32]
    if bad or any(len(column) != count for column in columns.values()):
        raise RobosteerError(f"cache: found other shapes than {META_FILE} says in {directory}; delete it")
    return ActivationCache(arrays=arrays, meta=meta, path=directory, **columns)


def _path(directory: Path, position: str) -> Path:
    return directory / f"{position}.npy"


def _read_meta(directory: Path) -> dict[str, Any] | None:
    try:
        meta = json.loads((directory / META_FILE).read_text())
        # Positions are names of files.
        named = meta["schema"] == SCHEMA and set(meta["settings"]["positions"]) <= set(POSITIONS)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return meta if named and all(_path(directory, p).exists() for p in meta["settings"]["positions"]) else None
