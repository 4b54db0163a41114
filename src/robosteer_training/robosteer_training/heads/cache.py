"""Activation cache: one forward pass per frame, kept as a memory-mapped array.

A cache directory holds `<position>.npy`, float32 (L, F, N, H), the actions and episodes of the frames (`frames.npz`),
and `cache.json`, which says for which checkpoint, dataset and settings, and how many frames are done. Blocks are
flushed before they are counted, so that an interrupted run continues at the last whole block.

Convention: the pass is sampling step 0, that is x = noise at flow time 1. One noise chunk, drawn from the recorded
seed, serves all frames: in pi0.5 the first suffix token is a noisy action, and with noise of their own the frames'
distances would measure the noise. (pi0's first suffix token is the state; it does not depend on the noise.) With
several draws the vectors are averaged.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_model import pi0
from robosteer_model.config import ModelConfig
from robosteer_model.taps import Tap
from robosteer_rig.errors import RobosteerError
from robosteer_training.files import json_digest, remove, write_json
from robosteer_training.frames import Frames, observation_of

SCHEMA = "robosteer.activations/1"
META_FILE = "cache.json"
FRAMES_FILE = "frames.npz"
POSITIONS = ("suffix.first", "prefix.last")


@dataclasses.dataclass(frozen=True)
class CacheSettings:
    """How activations are taken.

    Attributes:
        positions: token positions, of "suffix.first" and "prefix.last".
        noise_seed: of the noise chunk.
        flow_time: 1 is noise: the first step of sampling.
        draws: noise chunks to average over.
        block: frames per compiled pass.
    """

    positions: tuple[str, ...] = ("suffix.first",)
    noise_seed: int = 0
    flow_time: float = 1.0
    draws: int = 1
    block: int = 32

    def __post_init__(self) -> None:
        if bad := [p for p in self.positions if p not in POSITIONS]:
            raise RobosteerError(f"position: found {bad[0]!r}, expected one of {', '.join(POSITIONS)}")
        if not self.positions or self.draws < 1 or self.block < 1:
            raise RobosteerError("cache: found no position, draw or block, expected at least one of each")

    def to_json(self) -> dict[str, Any]:
        """What decides the numbers (the block size does not)."""
        return {
            "positions": list(self.positions),
            "noise_seed": self.noise_seed,
            "flow_time": self.flow_time,
            "draws": self.draws,
        }


@dataclasses.dataclass(frozen=True)
class ActivationCache:
    """A complete cache.

    Attributes:
        arrays: position -> float32 (L, F, N, H), read-only.
        actions: (F, A) float32, normalised with the checkpoint's statistics.
        episode_index: (F,).
        usable: (F,) bool, see `Frames`.
        meta: the content of `cache.json`.
    """

    arrays: dict[str, np.ndarray]
    actions: np.ndarray
    episode_index: np.ndarray
    usable: np.ndarray
    meta: dict[str, Any]

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


def fill_cache(
    directory: Path,
    params: Any,
    config: ModelConfig,
    frames: Frames,
    settings: CacheSettings,
    *,
    checkpoint_digest: str,
    dataset_digest: str,
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
        progress: called with (frames done, frames).
    """
    gemma = config.paligemma
    total = len(frames)
    meta = {
        "schema": SCHEMA,
        "key": json_digest([checkpoint_digest, dataset_digest, settings.to_json()]),
        "checkpoint_digest": checkpoint_digest,
        "dataset_digest": dataset_digest,
        "settings": settings.to_json(),
        "frames": total,
        "action_dim": frames.action_dim,
        "shape": [total, gemma.depth, gemma.num_heads, gemma.head_dim],
        "model": config.to_json(),
        "backend": f"{jax.default_backend()}, jax {jax.__version__}",
        "done": 0,
    }
    found = _read_meta(directory)
    if found is None or found["key"] != meta["key"]:
        remove(directory)
        directory.mkdir(parents=True)
        shape = (gemma.depth, total, gemma.num_heads, gemma.head_dim)
        arrays = {
            p: np.lib.format.open_memmap(_path(directory, p), "w+", np.float32, shape) for p in settings.positions
        }
        known = {"actions": frames.robot_actions, "episode_index": frames.episode_index, "usable": frames.usable}
        np.savez(directory / FRAMES_FILE, allow_pickle=False, **known)
        write_json(directory / META_FILE, meta)
    else:
        meta["done"] = found["done"]
        arrays = {p: np.load(_path(directory, p), mmap_mode="r+") for p in settings.positions}
    capture = _capture(config, settings)
    block = min(settings.block, total)
    for start in range(int(meta["done"]), total, block):
        first = min(start, total - block)
        batch = frames.gather(np.arange(first, first + block))
        for position, values in jax.device_get(capture(params, batch)).items():
            arrays[position][:, first : first + block] = values
            arrays[position].flush()
        meta["done"] = first + block
        write_json(directory / META_FILE, meta)
        if progress is not None:
            progress(first + block, total)
    return load_cache(directory)


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
    arrays = {p: np.load(_path(directory, p), mmap_mode="r") for p in meta["settings"]["positions"]}
    with np.load(directory / FRAMES_FILE, allow_pickle=False) as known:
        return ActivationCache(arrays, known["actions"], known["episode_index"], known["usable"], meta)


def _path(directory: Path, position: str) -> Path:
    return directory / f"{position}.npy"


def _read_meta(directory: Path) -> dict[str, Any] | None:
    try:
        meta = json.loads((directory / META_FILE).read_text())
    except (OSError, ValueError):
        return None
    complete = isinstance(meta, dict) and meta.get("schema") == SCHEMA
    return meta if complete and all(_path(directory, p).exists() for p in meta["settings"]["positions"]) else None


def _capture(config: ModelConfig, settings: CacheSettings) -> Callable[[Any, dict[str, Any]], dict[str, jax.Array]]:
    """A compiled function (params, batch) -> position -> (L, B, N, H) float32."""
    names = {"suffix.first": "suffix.attn.z", "prefix.last": "prefix.attn.z"}
    taps = tuple(Tap(names[p], at=p, label=p) for p in settings.positions)
    shape = (settings.draws, config.action_horizon, config.action_dim)
    noise = jax.random.normal(jax.random.key(settings.noise_seed), shape)

    @jax.jit
    def capture(params: Any, batch: dict[str, Any], noise: jax.Array) -> dict[str, jax.Array]:
        observation = observation_of(batch)
        prefilled = pi0.prefill(params, config, observation, taps=taps)
        times = jnp.full((observation.batch_size,), settings.flow_time)

        def one_draw(chunk: jax.Array) -> dict[str, jax.Array]:
            x_t = jnp.broadcast_to(chunk, (observation.batch_size, *chunk.shape))
            _, suffix = pi0.cached_velocity(params, config, prefilled, observation.state, x_t, times, taps=taps)
            return {name: value.astype(jnp.float32) for name, value in suffix.items()}

        averaged = jax.tree.map(lambda x: x.mean(0), jax.lax.map(one_draw, noise))
        return {name: value.astype(jnp.float32) for name, value in prefilled.taps.items()} | averaged

    return lambda params, batch: capture(params, batch, noise)
