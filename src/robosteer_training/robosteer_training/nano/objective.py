"""What pretraining minimises: pi0.5's flow-matching loss, several draws per frame, plus the auxiliary tasks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from robosteer_model import pi0, siglip
from robosteer_model.config import ModelConfig
from robosteer_model.flow_training import repeat_prefix
from robosteer_model.observation import Observation, image_to_float
from robosteer_model.taps import Tap
from robosteer_training.nano.augment import SHIFT_PIXELS, augment_images
from robosteer_training.nano.localise import (
    localisation_loss,
    normalise_positions,
    patch_loss,
    patch_targets,
    target_loss,
)

# Once the encoder has been prepared, the auxiliary tasks only keep it from forgetting.
AUXILIARY_WEIGHT = 0.2
TARGET_WEIGHT = 0.5


def observation_of(batch: dict[str, jax.Array], images: jax.Array, config: ModelConfig) -> Observation:
    """Model inputs of a batch, with images (2, B, h, w, 3) in [-1, 1] in the order of the first two slots."""
    cameras = config.cameras[:2]
    present = jnp.ones(images.shape[1], bool)
    return Observation(
        images={name: images[i] for i, name in enumerate(cameras)},
        image_masks=dict.fromkeys(cameras, present),
        state=batch["state"],
        tokenized_prompt=batch["tokens"],
        tokenized_prompt_mask=batch["tokens_mask"],
    )


def augmented_views(batch: dict[str, jax.Array], key: jax.Array) -> jax.Array:
    """Images of a batch (2, B, h, w, 3) in [-1, 1], each view augmented on its own."""
    images = image_to_float(jnp.moveaxis(batch["images"], 1, 0))
    keys = jax.random.split(key, images.shape[0])
    views = zip(keys, images, SHIFT_PIXELS, strict=True)
    return jnp.stack([augment_images(k, view, shift) for k, view, shift in views])


def auxiliary_loss(
    head: dict[str, jax.Array], tokens: list[jax.Array], images: jax.Array, objects: jax.Array, config: ModelConfig
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Both auxiliary tasks.

    Args:
        head: weights from `localise.init_head`.
        tokens: (B, T, D) per view.
        images: (views, B, h, w, 3).
        objects: (B, K, 3) m, NaN where absent.
        config: the model.

    Returns:
        Their sum, and each by name.
    """
    where = localisation_loss(head, tokens, normalise_positions(objects))
    targets = [patch_targets(view, config.siglip.patch_size) for view in images]
    what = jnp.mean(jnp.stack([patch_loss(head, t, g) for t, g in zip(tokens, targets, strict=True)]))
    return where + what, {"localisation": where, "patches": what}


def vision_loss(
    trainable: dict[str, Any], batch: dict[str, jax.Array], key: jax.Array, config: ModelConfig
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The auxiliary tasks alone, which prepare the image encoder at a tenth of a full step's cost.

    Args:
        trainable: {"img": the encoder's tree, "auxiliary": head}.
        batch: arrays of `batches.TrainingArrays`, one batch.
        key: PRNG key of the augmentation.
        config: the model.

    Returns:
        The loss, and its parts by name.
    """
    images = augmented_views(batch, key)
    views, size = images.shape[:2]
    flat = images.reshape(-1, *images.shape[2:])
    tokens = siglip.encode_images(trainable["img"], config.siglip, flat, jnp.dtype(config.dtype))
    per_view = [tokens[i * size : (i + 1) * size] for i in range(views)]
    return auxiliary_loss(trainable["auxiliary"], per_view, images, batch["objects"], config)


def pretraining_loss(
    trainable: dict[str, Any],
    batch: dict[str, jax.Array],
    key: jax.Array,
    config: ModelConfig,
    draws: int,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss of one batch.

    Args:
        trainable: {"model": openpi's tree, "auxiliary": head of `localise.init_head`}.
        batch: arrays of `batches.TrainingArrays.batches`.
        key: PRNG key of augmentation, noise and time.
        config: the model.
        draws: flow draws (noise, time) per frame. The suffix is a small part of the work, so more draws cost little.

    Returns:
        The loss, and its parts by name.
    """
    key_augment, key_flow = jax.random.split(key)
    images = augmented_views(batch, key_augment)
    observation = observation_of(batch, images, config)
    params = trainable["model"]

    prefix = pi0.embed_prefix(params, config, observation)
    middle = Tap("prefix.resid.post", layers=(config.paligemma.depth // 2 - 1,))
    read = pi0.prefill(params, config, observation, prefix=prefix, taps=[middle])
    prefilled = repeat_prefix(read, draws)
    actions = jnp.repeat(batch["chunks"], draws, axis=0)
    noise, time = pi0.draw_noise_and_time(key_flow, actions.shape)
    t = time[:, None, None]
    state = jnp.repeat(batch["state"], draws, axis=0)
    v_t, _ = pi0.cached_velocity(params, config, prefilled, state, t * noise + (1 - t) * actions, time)
    flow = jnp.mean(jnp.square(v_t - (noise - actions)))

    per_image = config.siglip.num_tokens
    tokens = [prefix.tokens[:, i * per_image : (i + 1) * per_image] for i in range(images.shape[0])]
    auxiliary, parts = auxiliary_loss(trainable["auxiliary"], tokens, images, batch["objects"], config)
    target = target_loss(trainable["auxiliary"], read.taps[middle.key][0], normalise_positions(batch["meant"]))
    loss = flow + AUXILIARY_WEIGHT * auxiliary + TARGET_WEIGHT * target
    return loss, {"flow": flow, "target": target, **parts}
