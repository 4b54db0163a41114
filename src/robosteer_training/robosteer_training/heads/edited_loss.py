"""The model's error under many head edits, by one compiled program.

Edits of the suffix act behind one prefix pass, which all of them share; edits of the prefix need a whole pass each. The
edits' arrays are arguments, so that no head, mask or seed ever recompiles. Noise and flow time belong to the frame:
they do not depend on the batch it is in, nor on the edit, so that differences between edits are paired.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_model import pi0, pi0_fast
from robosteer_model.config import ModelConfig
from robosteer_model.edits import ALL_STEPS, Edits, HeadEdit
from robosteer_model.observation import Observation
from robosteer_model.sequences import embed_prefix
from robosteer_model.taps import Tap
from robosteer_rig.errors import RobosteerError
from robosteer_training.frames import Frames, observation_of

Stream = Literal["prefix", "suffix"]
Kind = Literal["flow", "actions"]


class Stack(NamedTuple):
    """E edits of all heads: z' = z + mask (scale z + offset + noise ε - z).

    Attributes:
        mask: (E, L, N), which heads are edited, 0..1.
        seed: (E,) uint32, of ε.
        scale: (L, N), shared.
        offset: (L, N, H), shared.
        noise: (L, N), shared.
    """

    mask: np.ndarray
    seed: np.ndarray
    scale: np.ndarray
    offset: np.ndarray
    noise: np.ndarray


@dataclasses.dataclass(frozen=True)
class LossSettings:
    """What is measured.

    Attributes:
        stream: whose heads are edited; the same head index, other tokens.
        kind: "flow" is the training loss at drawn noise and time; "actions" the squared error of sampled actions.
            (pi0-FAST has one loss for both, the cross-entropy of the answer.)
        draws: noise and time draws per frame ("flow").
        num_steps: sampling steps ("actions").
        seed: of noise and time.
    """

    stream: Stream = "suffix"
    kind: Kind = "flow"
    draws: int = 1
    num_steps: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1 or self.num_steps < 1:
            raise RobosteerError(
                f"loss: found {self.draws} draws and {self.num_steps} steps, expected at least one of each"
            )


class EditedLoss:
    """Mean loss of a batch of frames under each of many edits.

    Args:
        params: openpi's tree.
        config: the model.
        frames: the data.
        settings: what is measured.

    Attributes:
        traces: programs made for losses: one per shape of the inputs, whatever the heads.

    Raises:
        RobosteerError: pi0-FAST frames without answers.
    """

    def __init__(self, params: Any, config: ModelConfig, frames: Frames, settings: LossSettings) -> None:
        if frames.fast is not None and not frames.fast.predicted.any():
            raise RobosteerError(
                "pi0_fast: found no action tokens, expected them because this method needs a loss; give "
                "--action-tokens MODULE:NAME, or use a method that reads activations only (knn, classify)"
            )
        self._params, self.config, self._frames, self._settings = params, config, frames, settings
        self.traces = 0
        losses = partial(_flow_losses if frames.fast is None else _fast_losses, config, settings, frames.action_dim)

        def program(params: Any, *inputs: Any) -> jax.Array:
            self.traces += 1
            return losses(params, *inputs)

        self._program = jax.jit(program)
        self._moments = jax.jit(partial(_moments, config, settings, fast=frames.fast is not None))

    def __call__(self, rows: np.ndarray, stack: Stack) -> np.ndarray:
        """(E,) float64 mean losses over the frames `rows`.

        Raises:
            RobosteerError: a loss that is no number.
        """
        losses = self._program(self._params, self._frames.gather(rows), jnp.asarray(rows), stack)
        losses = np.asarray(jax.device_get(losses), np.float64)
        if not np.isfinite(losses).all():
            raise RobosteerError("loss: found a value that is no number, expected one; check the checkpoint and data")
        return losses

    def moments(self, rows: np.ndarray, block: int = 2) -> tuple[np.ndarray, np.ndarray]:
        """Mean (L, N, H) of each head's output over frames and tokens of the stream, and its deviation (L, N).

        The deviation is the root of the mean variance of the H components, in activation units.
        """
        total: list[np.ndarray] = [np.zeros(())] * 3
        for start in range(0, len(rows), block):
            here = rows[np.arange(start, start + block).clip(max=len(rows) - 1)]
            weights = (np.arange(start, start + block) < len(rows)).astype(np.float32)
            found = self._moments(self._params, self._frames.gather(here), jnp.asarray(here), weights)
            total = [a + np.asarray(b, np.float64) for a, b in zip(total, jax.device_get(found), strict=True)]
        count, first, second = total
        mean = first / count
        variance = np.maximum(second / count - np.square(mean), 0).mean(-1)
        return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)


def _edits(settings: LossSettings, stack: Stack, mask: jax.Array, seed: jax.Array) -> Edits:
    edit = HeadEdit(
        mask, stack.scale, stack.offset, stack.noise, seed, np.float32(1), np.asarray(ALL_STEPS, np.int32), "all"
    )
    return Edits(**{settings.stream: (edit,)})


def _each(stack: Stack, loss: Callable[[jax.Array, jax.Array], jax.Array]) -> jax.Array:
    """Losses of all edits, one after the other."""
    return jax.lax.map(lambda one: loss(*one), (jnp.asarray(stack.mask), jnp.asarray(stack.seed)))


def _draws(config: ModelConfig, settings: LossSettings, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Noise (D, B, H, A) and flow time (D, B) of every frame; time as openpi's training draws it."""
    shape = (settings.draws, config.action_horizon, config.action_dim)

    def of_row(row: jax.Array) -> tuple[jax.Array, jax.Array]:
        noise_key, time_key = jax.random.split(jax.random.fold_in(jax.random.key(settings.seed), row))
        time = jax.random.beta(time_key, 1.5, 1, shape[:1]) * 0.999 + 0.001
        return jax.random.normal(noise_key, shape), time

    return jax.vmap(of_row, out_axes=1)(rows)


def _flow_losses(
    config: ModelConfig,
    settings: LossSettings,
    action_dim: int,
    params: Any,
    batch: dict[str, Any],
    rows: jax.Array,
    stack: Stack,
) -> jax.Array:
    observation, actions = observation_of(batch), jnp.asarray(batch["actions"])
    noise, time = _draws(config, settings, rows)
    prefix = embed_prefix(params, config, observation)
    shared = pi0.prefill(params, config, observation, prefix=prefix) if settings.stream == "suffix" else None

    def loss(mask: jax.Array, seed: jax.Array) -> jax.Array:
        edits = _edits(settings, stack, mask, seed)
        read = shared or pi0.prefill(params, config, observation, edits=edits, prefix=prefix)
        if settings.kind == "actions":
            sampled, _ = pi0.denoise(
                params, config, read, observation.state, noise[0], num_steps=settings.num_steps, edits=edits
            )
            return _robot_error(sampled - actions, action_dim)

        def one_draw(drawn: tuple[jax.Array, jax.Array]) -> jax.Array:
            noise, time = drawn
            t = time[:, None, None]
            x_t = t * noise + (1 - t) * actions
            found, _ = pi0.cached_velocity(params, config, read, observation.state, x_t, time, edits=edits)
            return _robot_error(found - (noise - actions), action_dim)

        return jax.lax.map(one_draw, (noise, time)).mean()

    return _each(stack, loss)


def _robot_error(difference: jax.Array, action_dim: int) -> jax.Array:
    """Mean square over frames, steps and the robot's own action dimensions."""
    return jnp.square(difference[..., :action_dim].astype(jnp.float32)).mean()


def _fast_losses(
    config: ModelConfig,
    settings: LossSettings,
    _action_dim: int,
    params: Any,
    batch: dict[str, Any],
    _rows: jax.Array,
    stack: Stack,
) -> jax.Array:
    observation = observation_of(batch)

    def loss(mask: jax.Array, seed: jax.Array) -> jax.Array:
        edits = _edits(settings, stack, mask, seed)
        return pi0_fast.compute_loss(params, config, observation, edits=edits).mean()

    return _each(stack, loss)


def _moments(
    config: ModelConfig,
    settings: LossSettings,
    params: Any,
    batch: dict[str, Any],
    rows: jax.Array,
    weights: jax.Array,
    *,
    fast: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Weight, weighted sum and sum of squares (L, N, H) of head outputs over frames and tokens."""
    observation = observation_of(batch)
    tap = Tap(f"{settings.stream}.attn.z", at="all", label="z")
    if fast:
        z = pi0_fast.text_pass(params, config, observation, taps=[tap]).taps["z"]
        chosen = _fast_tokens(observation, settings.stream, z.shape[2])
    else:
        actions = jnp.asarray(batch["actions"])
        noise, time = (drawn[0] for drawn in _draws(config, settings, rows))
        t = time[:, None, None]
        read = pi0.prefill(params, config, observation, taps=[tap])
        x_t = t * noise + (1 - t) * actions
        _, taps = pi0.cached_velocity(params, config, read, observation.state, x_t, time, taps=[tap])
        z = (read.taps | taps)["z"]
        chosen = read.valid if settings.stream == "prefix" else jnp.ones(z.shape[1:3], bool)
    weight = weights[:, None] * chosen
    z = z.astype(jnp.float32)
    total = jnp.einsum("bt,lbtnh->lnh", weight, z)
    return weight.sum(), total, jnp.einsum("bt,lbtnh->lnh", weight, jnp.square(z))


def _fast_tokens(observation: Observation, stream: Stream, length: int) -> jax.Array:
    """Bool (B, length): the stream's tokens of the training pass; image tokens come first and belong to the prompt."""
    valid, causal = observation.tokenized_prompt_mask, jnp.asarray(observation.token_ar_mask) > 0
    mine = valid & (causal if stream == "suffix" else ~causal)
    images = length + 1 - valid.shape[1]
    front = jnp.full((valid.shape[0], images), stream == "prefix")
    return jnp.concatenate([front, mine], axis=1)[:, :length]
