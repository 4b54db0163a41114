"""Where chosen heads look: attention from a token to the patches of each camera image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_model import pi0, pi0_fast
from robosteer_model.attention import patch_maps
from robosteer_model.config import ModelConfig
from robosteer_model.observation import present_cameras
from robosteer_model.taps import Tap
from robosteer_rig.errors import RobosteerError
from robosteer_training.frames import Frames, observation_of
from robosteer_training.heads.capture import prompt_only

_POSITIONS = ("suffix.first", "prefix.last")


@dataclasses.dataclass(frozen=True)
class AttentionMaps:
    """Attention of some heads on some frames (R frames, S heads, patches in rows and columns).

    Attributes:
        rows: (R,) frames.
        heads: as (layer, head).
        maps: camera slot -> (R, S, patch rows, patch columns) float32, shares of the whole attention.
        elsewhere: (R, S) share that goes to text and actions.
    """

    rows: np.ndarray
    heads: list[tuple[int, int]]
    maps: dict[str, np.ndarray]
    elsewhere: np.ndarray


def attention_maps(
    params: Any,
    config: ModelConfig,
    frames: Frames,
    rows: np.ndarray,
    heads: Sequence[tuple[int, int]],
    *,
    position: str = "suffix.first",
    noise_seed: int = 0,
    flow_time: float = 1.0,
    block: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> AttentionMaps:
    """Run the model and keep the attention of one token.

    Args:
        params: openpi's tree.
        config: the model.
        frames: the data.
        rows: which frames.
        heads: which heads.
        position: the token that looks, "suffix.first" or "prefix.last".
        noise_seed: as of the cache.
        flow_time: as of the cache.
        block: frames per pass.
        progress: called with (frames done, frames).
    """
    if position not in _POSITIONS:
        raise RobosteerError(f"position: found {position!r}, expected one of {', '.join(_POSITIONS)} for attention")
    program = jax.jit(_program(config, frames, list(heads), position, noise_seed, flow_time))
    parts, block = [], min(block, len(rows))
    for start in range(0, len(rows), block):
        # The last block is moved back; what it repeats is cut off.
        first = min(start, len(rows) - block)
        found = jax.device_get(program(params, frames.gather(rows[first : first + block])))
        parts.append(jax.tree.map(lambda x, skip=start - first: x[skip:], found))
        if progress is not None:
            progress(min(start + block, len(rows)), len(rows))
    maps = {slot: np.concatenate([part[slot] for part in parts]) for slot in parts[0]}
    elsewhere = 1 - sum(x.sum((2, 3)) for x in maps.values())
    return AttentionMaps(np.asarray(rows), list(heads), maps, np.asarray(elsewhere))


def _program(
    config: ModelConfig,
    frames: Frames,
    heads: list[tuple[int, int]],
    position: str,
    noise_seed: int,
    flow_time: float,
) -> Callable[[Any, dict[str, Any]], dict[str, jax.Array]]:
    """(params, batch) -> camera slot -> (B, S, patch rows, patch columns)."""
    layers = sorted({layer for layer, _ in heads})
    where = (jnp.array([layers.index(layer) for layer, _ in heads]), jnp.array([head for _, head in heads]))
    stream = position.partition(".")[0]
    tap = Tap(f"{stream}.attn.pattern", layers=tuple(layers), at=position, label="pattern")
    noise = jax.random.normal(jax.random.key(noise_seed), (config.action_horizon, config.action_dim))
    fast = None if frames.fast is None else frames.fast.first_token

    def program(params: Any, batch: dict[str, Any]) -> dict[str, jax.Array]:
        observation = observation_of(batch)
        if fast is None:
            pattern = _flow_pattern(params, config, observation, tap, noise, flow_time)
            shift = None
        else:
            observation = prompt_only(observation)
            pattern, shift = _fast_pattern(params, config, observation, tap, fast)
        cameras = present_cameras(config, observation)
        chosen = pattern[where[0], :, where[1]].astype(jnp.float32)
        # Indexing with arrays on both sides of a slice puts the heads first: (S, B, keys).
        chosen = jnp.moveaxis(chosen, 0, 1)
        prefix = config.siglip.num_tokens * len(cameras) + observation.tokenized_prompt.shape[1]
        return patch_maps(chosen, cameras, config, prefix=prefix, shift=shift)

    return program


def _flow_pattern(
    params: Any, config: ModelConfig, observation: Any, tap: Tap, noise: jax.Array, flow_time: float
) -> jax.Array:
    """(layers, B, N, keys) of a flow model; the prefix's keys come first, in order."""
    prefilled = pi0.prefill(params, config, observation, taps=[tap])
    if tap.stream == "prefix":
        return prefilled.taps["pattern"]
    batch = observation.batch_size
    x_t = jnp.broadcast_to(noise, (batch, *noise.shape))
    times = jnp.full((batch,), flow_time)
    return pi0.cached_velocity(params, config, prefilled, observation.state, x_t, times, taps=[tap])[1]["pattern"]


def _fast_pattern(
    params: Any, config: ModelConfig, observation: Any, tap: Tap, first_token: int
) -> tuple[jax.Array, jax.Array]:
    """(layers, B, N, keys) of pi0-FAST, and by how much each row's keys are rolled to the left."""
    decoding = pi0_fast.prefill(params, config, observation, 1, taps=[tap])
    if tap.stream == "prefix":
        return decoding.taps["pattern"], decoding.length
    token = jnp.full((observation.batch_size,), first_token, jnp.int32)
    _, taps = pi0_fast.decode_step(params, config, decoding, token, 0, taps=[tap])
    return taps["pattern"], decoding.length
