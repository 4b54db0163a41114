"""The forward pass that fills a cache: head outputs at chosen token positions, for every model of the family."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from robosteer_model import pi0, pi0_fast
from robosteer_model.config import ModelConfig
from robosteer_model.observation import Observation
from robosteer_model.taps import Tap
from robosteer_rig.errors import RobosteerError
from robosteer_training.frames import Frames, observation_of

# Position -> where it is read; a mean runs over all tokens of the stream.
_TAPS = {
    "suffix.first": Tap("suffix.attn.z", at="suffix.first", label="suffix.first"),
    "suffix.last": Tap("suffix.attn.z", at="suffix.last", label="suffix.last"),
    "suffix.mean": Tap("suffix.attn.z", at="all", mean=True, label="suffix.mean"),
    "prefix.last": Tap("prefix.attn.z", at="prefix.last", label="prefix.last"),
}
POSITIONS = tuple(_TAPS)
_FAST_POSITIONS = ("suffix.first", "prefix.last")


@dataclasses.dataclass(frozen=True)
class CacheSettings:
    """How activations are taken.

    Attributes:
        positions: token positions, of `POSITIONS`.
        noise_seed: of the noise chunk.
        flow_time: 1 is noise: the first step of sampling.
        draws: noise chunks to average over.
        block: frames per compiled pass.
        stride: take every n-th frame of each episode.
    """

    positions: tuple[str, ...] = ("suffix.first",)
    noise_seed: int = 0
    flow_time: float = 1.0
    draws: int = 1
    block: int = 32
    stride: int = 1

    def __post_init__(self) -> None:
        if bad := [p for p in self.positions if p not in POSITIONS]:
            raise RobosteerError(f"position: found {bad[0]!r}, expected one of {', '.join(POSITIONS)}")
        if not self.positions or self.draws < 1 or self.block < 1 or self.stride < 1:
            raise RobosteerError("cache: found no position, draw, block or stride, expected at least one of each")
        if not 0 <= self.flow_time <= 1:
            raise RobosteerError(f"flow_time: found {self.flow_time}, expected 0 (actions) ... 1 (noise)")

    def to_json(self) -> dict[str, Any]:
        """What decides the numbers (the block size does not)."""
        return {
            "positions": list(self.positions),
            "noise_seed": self.noise_seed,
            "flow_time": self.flow_time,
            "draws": self.draws,
            "stride": self.stride,
        }


Capture = Callable[[Any, dict[str, Any]], dict[str, jax.Array]]


def capture_program(config: ModelConfig, settings: CacheSettings, frames: Frames) -> Capture:
    """A compiled function (params, batch) -> position -> (L, B, N, H) float32.

    Raises:
        RobosteerError: a position that pi0-FAST does not have.
    """
    taps = [_TAPS[p] for p in settings.positions]
    if frames.fast is None:
        return _flow_program(config, settings, taps)
    if bad := [p for p in settings.positions if p not in _FAST_POSITIONS]:
        raise RobosteerError(f"position: found {bad[0]!r}, expected one of {', '.join(_FAST_POSITIONS)} for pi0_fast")
    return _fast_program(config, taps, frames.fast.first_token)


def _float32(taps: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: value.astype(jnp.float32) for name, value in taps.items()}


def _flow_program(config: ModelConfig, settings: CacheSettings, taps: Sequence[Tap]) -> Capture:
    """The prefix, then one velocity per noise chunk behind it."""
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
            return _float32(suffix)

        averaged = jax.tree.map(lambda x: x.mean(0), jax.lax.map(one_draw, noise))
        return _float32(prefilled.taps) | averaged

    return lambda params, batch: capture(params, batch, noise)


def _fast_program(config: ModelConfig, taps: Sequence[Tap], first_token: int) -> Capture:
    """The prompt as at deployment, then the token that opens every answer (see the decision on FAST)."""

    @jax.jit
    def capture(params: Any, batch: dict[str, Any]) -> dict[str, jax.Array]:
        observation = prompt_only(observation_of(batch))
        decoding = pi0_fast.prefill(params, config, observation, 1, taps=taps)
        token = jnp.full((observation.batch_size,), first_token, jnp.int32)
        suffix_taps = [tap for tap in taps if tap.stream == "suffix"]
        _, suffix = pi0_fast.decode_step(params, config, decoding, token, 0, taps=suffix_taps)
        return _float32(decoding.taps | suffix)

    return capture


def prompt_only(observation: Observation) -> Observation:
    """A FAST observation without its answer, as the model meets it when it acts."""
    assert observation.token_ar_mask is not None  # noqa: S101 (of FAST frames, which always have it)
    causal = observation.token_ar_mask > 0
    return dataclasses.replace(
        observation,
        tokenized_prompt_mask=observation.tokenized_prompt_mask & ~causal,
        token_ar_mask=jnp.zeros_like(observation.token_ar_mask),
    )
