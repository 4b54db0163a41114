"""Vision tokens computed once: the image encoder is frozen, so that a frame's tokens never change.

Augmentation changes images, so that it is applied before the encoder: each frame gets a few variants, drawn once, after
the plain one (number 0), which held-out measurements use.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_model import siglip
from robosteer_model.config import ModelConfig
from robosteer_model.observation import Observation, image_to_float
from robosteer_training.files import json_digest, remove, write_json
from robosteer_training.finetune.loss import AUGMENTATIONS
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.frames import Frames

_BLOCK = 32
_META_FILE = "vision.json"
# Leave this share of the free disk alone.
_SPARE = 0.2


def vision_bytes(config: ModelConfig, frames: Frames, settings: TrainSettings) -> int:
    """Size of the cache."""
    per_image = config.siglip.num_tokens * config.paligemma.width * jnp.dtype(config.dtype).itemsize
    return (1 + settings.augment_variants) * len(frames) * len(frames.images) * per_image


def fits_on_disk(directory: Path, needed: int) -> bool:
    """Whether a cache of this size may be written."""
    place = next(p for p in (directory, *directory.parents) if p.exists())
    return needed <= (1 - _SPARE) * shutil.disk_usage(place).free


def encode_frames(
    params: Mapping[str, Any],
    config: ModelConfig,
    frames: Frames,
    settings: TrainSettings,
    directory: Path,
    *,
    source: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Vision tokens of every frame, image slot -> (V, F, T, W) in the compute dtype, memory-mapped.

    Args:
        params: the base parameters.
        config: the model.
        frames: the data.
        settings: augmentation, number of variants, seed.
        directory: where the files lie; what an earlier run left there for the same source is used again.
        source: digests of base and data.
        progress: called with (images done, images).
    """
    dtype = jnp.dtype(config.dtype)
    shape = (1 + settings.augment_variants, len(frames), config.siglip.num_tokens, config.paligemma.width)
    told = {"augment": settings.augment, "seed": settings.seed, "shape": list(shape), "dtype": dtype.name}
    key = json_digest({**told, "source": source})
    files = {slot: directory / f"{slot}.npy" for slot in frames.images}
    if not _is_whole(directory, key):
        remove(directory)
        directory.mkdir(parents=True)
        _encode(params, config, frames, settings, files, shape, progress)
        write_json(directory / _META_FILE, {"key": key, **told})
    return {slot: np.load(file, mmap_mode="r").view(dtype) for slot, file in files.items()}


def _is_whole(directory: Path, key: str) -> bool:
    try:
        return f'"{key}"' in (directory / _META_FILE).read_text()
    except OSError:
        return False


def _encode(
    params: Mapping[str, Any],
    config: ModelConfig,
    frames: Frames,
    settings: TrainSettings,
    files: Mapping[str, Path],
    shape: tuple[int, int, int, int],
    progress: Callable[[int, int], None] | None,
) -> None:
    encode = jax.jit(partial(_variant, config), static_argnums=(2, 4))
    dtype = jnp.dtype(config.dtype)
    # numpy's files know no bfloat16: its bits are stored.
    stored = np.dtype(f"u{dtype.itemsize}")
    vision, (variants, total, *_), done = params["PaliGemma"]["img"], shape, 0
    for slot, images in frames.images.items():
        tokens = np.lib.format.open_memmap(files[slot], mode="w+", dtype=stored, shape=shape)
        for variant in range(variants):
            for start in range(0, total, _BLOCK):
                # The last block overlaps the one before: one shape, one program.
                first = max(0, min(start, total - _BLOCK))
                key = jax.random.fold_in(jax.random.fold_in(jax.random.key(settings.seed + 4), variant), first)
                augment = settings.augment if variant else "none"
                block = encode(vision, np.asarray(images[first : first + _BLOCK]), slot, key, augment)
                tokens[variant, start : first + len(block)] = np.asarray(block)[start - first :].view(stored)
                done += len(block) - (start - first)
                if progress is not None:
                    progress(done, variants * total * len(frames.images))
        tokens.flush()


def _variant(config: ModelConfig, vision: Any, images: jax.Array, slot: str, key: jax.Array, augment: str) -> jax.Array:
    """Tokens of one block of images."""
    batch = image_to_float(images)
    augmentation = AUGMENTATIONS[augment]
    if augmentation is not None:
        blank = jnp.zeros((len(batch), 1))
        seen = Observation({slot: batch}, {}, blank, blank.astype(jnp.int32), blank.astype(bool))
        batch = augmentation(key, seen).images[slot]
    return siglip.encode_images(vision, config.siglip, batch, jnp.dtype(config.dtype))


def draw_variants(settings: TrainSettings, step: int) -> np.ndarray | None:
    """Which variant each row of a batch takes, (B,)."""
    if not settings.augment_variants:
        return None
    random = np.random.default_rng([settings.seed, 5, step])
    return random.integers(1, settings.augment_variants + 1, settings.batch_size)
