"""The base model's own loss, from images or from vision tokens that were computed once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_model import pi0, siglip
from robosteer_model.augmentation import augment as openpi_augmentation
from robosteer_model.config import ModelConfig
from robosteer_model.layers import embed_tokens
from robosteer_model.observation import Observation, image_to_float
from robosteer_model.sequences import Prefix, prefix_layout
from robosteer_training.frames import Frames, observation_of

_VISION_BLOCK = 32


def batch_loss(
    params: Any,
    config: ModelConfig,
    batch: Mapping[str, Any],
    noise: jax.Array,
    time: jax.Array,
    augment: Callable[[Observation], Observation] | None = None,
) -> jax.Array:
    """Flow-matching loss (B, H) of a gathered batch.

    Args:
        params: openpi's tree.
        config: the model.
        batch: see `Frames.gather`; images (B, h, w, 3) or vision tokens (B, T, W).
        noise: (B, H, A).
        time: (B,).
        augment: applied to images; impossible with vision tokens.
    """
    if next(iter(batch["image"].values())).ndim == 3:
        return _loss_from_tokens(params, config, batch, noise, time)
    observation = observation_of(batch)
    if augment is not None:
        observation = augment(observation)
    return pi0.flow_loss(params, config, observation, batch["actions"], noise, time)


def _loss_from_tokens(
    params: Any, config: ModelConfig, batch: Mapping[str, Any], noise: jax.Array, time: jax.Array
) -> jax.Array:
    """`pi0.flow_loss` with the images already encoded."""
    cameras = [name for name in config.cameras if name in batch["image"]]
    images = [batch["image"][name] for name in cameras]
    table = params["PaliGemma"]["llm"]["embedder"]["input_embedding"]
    prompt = embed_tokens(table, batch["tokenized_prompt"], jnp.dtype(config.dtype))
    tokens = jnp.concatenate([*(image.astype(prompt.dtype) for image in images), prompt], axis=1)
    seen = jnp.ones((len(tokens), tokens.shape[1] - prompt.shape[1]), bool)
    valid = jnp.concatenate([seen, batch["tokenized_prompt_mask"]], axis=1)
    prefix = Prefix(tokens, valid, prefix_layout(cameras, images[0].shape[1], valid))
    observation = Observation({}, {}, batch["state"], batch["tokenized_prompt"], batch["tokenized_prompt_mask"])
    t = time[:, None, None]
    x_t = t * noise + (1 - t) * batch["actions"]
    v_t = pi0.joint_pass(params, config, observation, x_t, time, prefix=prefix).velocity
    return jnp.mean(jnp.square(v_t - (noise - batch["actions"])), axis=-1)


def encode_frames(
    params: Any, config: ModelConfig, frames: Frames, progress: Callable[[int, int], None] | None = None
) -> dict[str, np.ndarray]:
    """Vision tokens of every frame, image slot -> (F, T, W) in the compute dtype; SigLIP must be frozen."""

    @jax.jit
    def encode(vision: Any, images: jax.Array) -> jax.Array:
        return siglip.encode_images(vision, config.siglip, image_to_float(images), jnp.dtype(config.dtype))

    vision, total = params["PaliGemma"]["img"], len(frames)
    encoded = {}
    for done, (slot, images) in enumerate(frames.images.items()):
        blocks = []
        for start in range(0, total, _VISION_BLOCK):
            # The last block overlaps the one before: one shape, one program.
            first = max(0, min(start, total - _VISION_BLOCK))
            block = jax.device_get(encode(vision, np.asarray(images[first : first + _VISION_BLOCK])))
            blocks.append(block[start - first :])
            if progress is not None:
                progress(done * total + start + len(blocks[-1]), total * len(frames.images))
        encoded[slot] = np.concatenate(blocks)
    return encoded


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
AUGMENTATIONS: dict[str, Callable[[jax.Array, Observation], Observation] | None] = {
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
