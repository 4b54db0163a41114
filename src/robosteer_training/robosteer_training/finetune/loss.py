"""The base model's own loss of a gathered batch: flow matching for pi0 and pi0.5, cross-entropy for pi0-FAST."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from robosteer_model import pi0, pi0_fast
from robosteer_model.augmentation import augment as openpi_augmentation
from robosteer_model.config import ModelConfig
from robosteer_model.flow_training import shared_prefix_loss
from robosteer_model.observation import Observation
from robosteer_model.pruning import restore
from robosteer_model.remat import Remat
from robosteer_training.frames import observation_of

Augment = Callable[[jax.Array, Observation], Observation]


@dataclasses.dataclass(frozen=True)
class Work:
    """What is computed for one loss; every choice gives the same number up to rounding.

    Attributes:
        prune: leave out absent views and prompt padding.
        skip_dead: read the prefix into keys and values only; the parameters may then lack the dead layer.
        remat: what the backward pass computes again.
    """

    prune: bool = True
    skip_dead: bool = True
    remat: Remat = "off"


def batch_loss(
    params: Mapping[str, Any],
    config: ModelConfig,
    batch: Mapping[str, Any],
    noise: jax.Array,
    time: jax.Array,
    augment: Callable[[Observation], Observation] | None = None,
    work: Work = Work(),
) -> jax.Array:
    """Loss per row and step of the chunk, (B, H); FAST models have one per row, (B, 1).

    Args:
        params: openpi's tree, or `without_dead_layer` of it when `work.skip_dead`.
        config: the model.
        batch: see `Frames.gather`; images (B, h, w, 3) or vision tokens (B, T, W).
        noise: (B, D, H, A), D draws per row; not read by FAST models.
        time: (B, D).
        augment: applied to images; impossible with vision tokens.
        work: what is computed.
    """
    observation = observation_of(batch)
    if augment is not None:
        observation = augment(observation)
    if not work.prune:
        observation = restore(observation, config)
    if config.model_type == "pi0_fast":
        return pi0_fast.compute_loss(dict(params), config, observation, remat=work.remat)[:, None]
    if work.skip_dead or noise.shape[1] > 1:
        return shared_prefix_loss(params, config, observation, batch["actions"], noise, time, remat=work.remat)
    return pi0.flow_loss(dict(params), config, observation, batch["actions"], noise[:, 0], time[:, 0], remat=work.remat)


def draw(key: jax.Array, shape: tuple[int, int, int], draws: int = 1) -> tuple[jax.Array, jax.Array]:
    """Noise (B, D, H, A) and times (B, D) for chunks of `shape` (B, H, A); one draw per row is openpi's own."""
    batch, horizon, dims = shape
    noise, time = _draw(key, (batch * draws, horizon, dims))
    return noise.reshape(batch, draws, horizon, dims), time.reshape(batch, draws)


# Compiled once for all steps: the sampler of the time is a large program.
_draw = jax.jit(pi0.draw_noise_and_time, static_argnums=1)


def light_augmentation(key: jax.Array, observation: Observation) -> Observation:
    """Change gain per channel and brightness by up to 10 %; shift exterior views by up to 4 % (edges repeated).

    Wrist views are not shifted: their geometry says where the gripper is (openpi's rule).
    """
    images = {}
    for index, (slot, image) in enumerate(sorted(observation.images.items())):
        shift_key, light_key = jax.random.split(jax.random.fold_in(key, index))
        shifted = image if "wrist" in slot else _shift(shift_key, image)
        images[slot] = _relight(light_key, shifted)
    return dataclasses.replace(observation, images=images)


# By `TrainSettings.augment`.
AUGMENTATIONS: dict[str, Augment | None] = {
    "none": None,
    "light": light_augmentation,
    "openpi": openpi_augmentation,
}


def _shift(key: jax.Array, images: jax.Array) -> jax.Array:
    pixels = max(1, round(0.04 * images.shape[1]))
    padded = jnp.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="edge")
    corner = jax.random.randint(key, (images.shape[0], 2), 0, 2 * pixels + 1)
    return jax.vmap(lambda image, c: jax.lax.dynamic_slice(image, (c[0], c[1], 0), images.shape[1:]))(padded, corner)


def _relight(key: jax.Array, images: jax.Array) -> jax.Array:
    gain_key, offset_key = jax.random.split(key)
    gain = jax.random.uniform(gain_key, (images.shape[0], 1, 1, 3), minval=0.9, maxval=1.1)
    offset = jax.random.uniform(offset_key, (images.shape[0], 1, 1, 1), minval=-0.1, maxval=0.1)
    return jnp.clip(images * gain + offset, -1, 1)
