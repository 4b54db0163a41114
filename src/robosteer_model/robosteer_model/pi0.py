"""pi0 and pi0.5: flow matching over action chunks, conditioned on images and a prompt.

Time runs from noise (t = 1) to actions (t = 0): x_t = t * noise + (1 - t) * actions, and the network predicts
u_t = noise - actions. Axis letters: B batch, H action_horizon, A action_dim, T prefix length, U suffix length,
W0/W1 widths of PaliGemma and of the action expert.

All functions are pure; under `jax.jit` the arguments `config`, `num_steps` and `taps` are static.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from robosteer_model.config import ModelConfig
from robosteer_model.edits import Edits, resolve_edits
from robosteer_model.gemma import KvCache, forward
from robosteer_model.layers import attention_mask, linear, positions_of
from robosteer_model.observation import Observation
from robosteer_model.realtime import Guide, guided, held, held_times
from robosteer_model.remat import Remat
from robosteer_model.sequences import Prefix, Suffix, cached_masks, embed_prefix, embed_suffix, joint_masks
from robosteer_model.taps import Tap, resolve

__all__ = [
    "Joint",
    "Prefilled",
    "Prefix",
    "Suffix",
    "cached_masks",
    "cached_velocity",
    "compute_loss",
    "denoise",
    "draw_noise_and_time",
    "embed_prefix",
    "embed_suffix",
    "flow_loss",
    "joint_masks",
    "joint_pass",
    "prefill",
    "sample_actions",
    "velocity",
]

Params = dict[str, Any]


class Prefilled(NamedTuple):
    """A prefix already read: all that denoising needs of it.

    Attributes:
        cache: keys and values of every prefix token, (L, B, T, K, H).
        valid: bool (B, T).
        output: (B, T, W0) after the final norm.
        taps: prefix taps by key.
    """

    cache: KvCache
    valid: jax.Array
    output: jax.Array
    taps: dict[str, jax.Array]


class Joint(NamedTuple):
    """Result of one pass over prefix and suffix together.

    Attributes:
        velocity: (B, H, A).
        prefix_output: (B, T, W0) after the final norm.
        suffix_output: (B, U, W1) after the final norm.
        taps: by key.
    """

    velocity: jax.Array
    prefix_output: jax.Array
    suffix_output: jax.Array
    taps: dict[str, jax.Array]


def joint_pass(
    params: Params,
    config: ModelConfig,
    observation: Observation,
    x_t: jax.Array,
    time: jax.Array,
    *,
    taps: Sequence[Tap] = (),
    edits: Edits | None = None,
    prefix: Prefix | None = None,
    remat: Remat = "off",
) -> Joint:
    """One pass over [prefix ; suffix], as in training; `prefix` spares embedding the observation again."""
    prefix = prefix or embed_prefix(params, config, observation, remat=remat)
    suffix = embed_suffix(params, config, observation.state, x_t, time)
    valid, autoregressive = joint_masks(prefix, suffix)
    layouts = {"prefix": (0, prefix.layout), "suffix": (1, suffix.layout)}
    shapes = {"prefix": prefix.valid.shape, "suffix": suffix.tokens.shape[:2]}
    result = forward(
        params["PaliGemma"]["llm"],
        config,
        (prefix.tokens, suffix.tokens),
        positions_of(valid),
        attention_mask(valid, autoregressive),
        condition=suffix.condition,
        readers=resolve(taps, layouts),
        writers=resolve_edits(edits, config, layouts, shapes),
        remat=remat,
    )
    prefix_output, suffix_output = result.outputs
    return Joint(_project_out(params, config, suffix_output), prefix_output, suffix_output, result.taps)


def _project_out(params: Params, config: ModelConfig, suffix_output: jax.Array) -> jax.Array:
    return linear(params["action_out_proj"], suffix_output[:, -config.action_horizon :])


def velocity(
    params: Params,
    config: ModelConfig,
    observation: Observation,
    x_t: jax.Array,
    time: jax.Array,
    *,
    taps: Sequence[Tap] = (),
    edits: Edits | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Predicted velocity at (x_t, time), by one joint pass.

    Args:
        params: openpi's tree.
        config: the model.
        observation: batch of inputs.
        x_t: (B, H, A).
        time: (B,), 1 is noise.
        taps: activations to return.
        edits: changes to activations.

    Returns:
        v_t (B, H, A), and the taps by key with the layer as leading axis.
    """
    result = joint_pass(params, config, observation, x_t, time, taps=taps, edits=edits)
    return result.velocity, result.taps


def flow_loss(
    params: Params,
    config: ModelConfig,
    observation: Observation,
    actions: jax.Array,
    noise: jax.Array,
    time: jax.Array,
    *,
    edits: Edits | None = None,
    remat: Remat = "off",
) -> jax.Array:
    """Squared error of the velocity, mean over action_dim: (B, H). Padded dimensions and steps count, as in openpi.

    Args:
        params: openpi's tree.
        config: the model.
        observation: batch of inputs.
        actions: (B, H, A), normalised.
        noise: (B, H, A).
        time: (B,).
        edits: changes to activations.
        remat: what the backward pass computes again.
    """
    t = time[:, None, None]
    x_t = t * noise + (1 - t) * actions
    v_t = joint_pass(params, config, observation, x_t, time, edits=edits, remat=remat).velocity
    return jnp.mean(jnp.square(v_t - (noise - actions)), axis=-1)


def draw_noise_and_time(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """The noise (shape) and time (shape[0],) that openpi's loss draws from `key`; time ~ 0.001 + 0.999 Beta(1.5, 1)."""
    _, noise_key, time_key = jax.random.split(key, 3)
    noise = jax.random.normal(noise_key, shape)
    return noise, jax.random.beta(time_key, 1.5, 1, shape[:1]) * 0.999 + 0.001


def compute_loss(
    key: jax.Array,
    params: Params,
    config: ModelConfig,
    observation: Observation,
    actions: jax.Array,
    *,
    augment: Callable[[jax.Array, Observation], Observation] | None = None,
) -> jax.Array:
    """Openpi's `compute_loss`: the key gives augmentation, noise and time. Returns (B, H).

    Args:
        key: split in three: augmentation, noise, time.
        params: openpi's tree.
        config: the model.
        observation: batch of inputs.
        actions: (B, H, A), normalised.
        augment: image augmentation (openpi's `train=True`), given the first of the three keys.
    """
    noise, time = draw_noise_and_time(key, actions.shape)
    if augment is not None:
        observation = augment(jax.random.split(key, 3)[0], observation)
    return flow_loss(params, config, observation, actions, noise, time)


def prefill(
    params: Params,
    config: ModelConfig,
    observation: Observation,
    *,
    taps: Sequence[Tap] = (),
    edits: Edits | None = None,
    prefix: Prefix | None = None,
) -> Prefilled:
    """Read images and prompt once; the action expert takes no part. Prefix edits then live in the cache."""
    prefix = prefix or embed_prefix(params, config, observation)
    layouts = {"prefix": (0, prefix.layout)}
    result = forward(
        params["PaliGemma"]["llm"],
        config,
        (prefix.tokens, None),
        positions_of(prefix.valid),
        attention_mask(prefix.valid, jnp.zeros(prefix.valid.shape[1], bool)),
        keep_cache=True,
        readers=resolve(taps, layouts),
        writers=resolve_edits(edits, config, layouts, {"prefix": prefix.valid.shape}),
    )
    return Prefilled(result.cache, prefix.valid, result.outputs[0], result.taps)


def cached_velocity(
    params: Params,
    config: ModelConfig,
    prefilled: Prefilled,
    state: jax.Array,
    x_t: jax.Array,
    time: jax.Array,
    *,
    taps: Sequence[Tap] = (),
    edits: Edits | None = None,
    step: jax.Array | None = None,
    remat: Remat = "off",
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The velocity by a pass over the suffix alone; equals `velocity` up to rounding.

    Args:
        params: openpi's tree.
        config: the model.
        prefilled: of the observation.
        state: (B, A).
        x_t: (B, H, A).
        time: (B,).
        taps: activations to return.
        edits: changes to activations; those of the suffix act here.
        step: index of the denoising step, for edits that act in some of them.
        remat: what the backward pass computes again.
    """
    suffix = embed_suffix(params, config, state, x_t, time)
    mask, positions = cached_masks(prefilled.valid, suffix)
    layouts = {"suffix": (1, suffix.layout)}
    result = forward(
        params["PaliGemma"]["llm"],
        config,
        (None, suffix.tokens),
        positions,
        mask,
        condition=suffix.condition,
        cache=prefilled.cache,
        readers=resolve(taps, layouts),
        writers=resolve_edits(edits, config, layouts, {"suffix": suffix.tokens.shape[:2]}, step),
        remat=remat,
    )
    return _project_out(params, config, result.outputs[1]), result.taps


def sample_actions(
    params: Params,
    config: ModelConfig,
    observation: Observation,
    noise: jax.Array,
    *,
    num_steps: int = 10,
    taps: Sequence[Tap] = (),
    edits: Edits | None = None,
    guide: Guide | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Integrate the flow from noise to an action chunk with `num_steps` Euler steps.

    Args:
        params: openpi's tree.
        config: the model.
        observation: batch of inputs.
        noise: (B, H, A), x at t = 1.
        num_steps: evaluations of the velocity, at t = 1, 1 - 1/n, ..., 1/n.
        taps: activations to return.
        edits: changes to activations.
        guide: the chunk being executed, which the new one continues; None computes nothing more.

    Returns:
        Actions (B, H, A), normalised; and the taps by key: prefix taps lead with the layer, suffix taps with
        (step, layer).
    """
    prefilled = prefill(params, config, observation, taps=taps, edits=edits)
    actions, collected = denoise(
        params, config, prefilled, observation.state, noise, num_steps=num_steps, taps=taps, edits=edits, guide=guide
    )
    return actions, prefilled.taps | collected


def denoise(
    params: Params,
    config: ModelConfig,
    prefilled: Prefilled,
    state: jax.Array,
    noise: jax.Array,
    *,
    num_steps: int = 10,
    taps: Sequence[Tap] = (),
    edits: Edits | None = None,
    guide: Guide | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The Euler steps of `sample_actions`, behind a prefix that is already read."""
    dt = -1.0 / num_steps

    def step(carry: tuple[jax.Array, jax.Array], index: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        x_t, time = carry
        x_t = held(guide, x_t)
        times = held_times(guide, jnp.broadcast_to(time, x_t.shape[:1]))

        def predict(x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
            return cached_velocity(params, config, prefilled, state, x, times, taps=taps, edits=edits, step=index)

        v_t, collected = guided(guide, predict, x_t, time)
        return ((x_t + dt * v_t).astype(x_t.dtype), time + dt), collected

    start = (noise, jnp.ones((), jnp.float32))
    (actions, _), collected = jax.lax.scan(step, start, jnp.arange(num_steps))
    return held(guide, actions), collected
