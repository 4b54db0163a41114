"""Pretraining of robosteer-nano from nothing, on scripted demonstrations: one seeded, resumable procedure."""

from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path
from typing import IO, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track

from robosteer_model.config import ModelConfig
from robosteer_model.params import flatten, unflatten
from robosteer_training.interrupt import Stopped, deferred_interrupt
from robosteer_training.nano.batches import TrainingArrays
from robosteer_training.nano.initialise import initialise
from robosteer_training.nano.localise import init_head
from robosteer_training.nano.objective import pretraining_loss, vision_loss

LOG_INTERVAL = 20


@dataclasses.dataclass(frozen=True)
class PretrainSettings:
    """Hyperparameters.

    Attributes:
        vision_steps: steps in which the image encoder learns the auxiliary tasks alone.
        vision_lr: their peak learning rate.
        steps: optimiser steps of the whole model.
        batch_size: frames per step.
        draws: flow draws per frame.
        peak_lr: AdamW's learning rate after warm-up; cosine to a hundredth of it.
        warmup_steps: linear warm-up; at most a tenth of the steps.
        ema: decay of the averaged weights that are saved.
        save_interval: steps between saved states.
        seed: of weights, batches and noise.
    """

    vision_steps: int = 1500
    vision_lr: float = 3e-3
    steps: int = 1800
    batch_size: int = 64
    draws: int = 4
    peak_lr: float = 1e-3
    warmup_steps: int = 100
    ema: float = 0.998
    save_interval: int = 250
    seed: int = 0


def make_optimizer(peak_lr: float, warmup_steps: int, steps: int) -> optax.GradientTransformation:
    """AdamW with warm-up, cosine decay to a hundredth and global-norm clipping."""
    warmup_steps = min(warmup_steps, steps // 10)
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak_lr, warmup_steps, steps, peak_lr / 100)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b1=0.9, b2=0.95, weight_decay=1e-4))


def _optimizer(settings: PretrainSettings) -> optax.GradientTransformation:
    return make_optimizer(settings.peak_lr, settings.warmup_steps, settings.steps)


def initial_weights(config: ModelConfig, tokenizer: bytes, objects: int, seed: int) -> dict[str, Any]:
    """Random model and auxiliary heads."""
    key_model, key_head = jax.random.split(jax.random.key(seed))
    return {
        "model": initialise(config, tokenizer, key_model),
        "auxiliary": init_head(key_head, config.paligemma.width, objects, 2),
    }


def prepare_vision(
    weights: dict[str, Any], config: ModelConfig, arrays: TrainingArrays, settings: PretrainSettings
) -> dict[str, Any]:
    """Teach the image encoder the auxiliary tasks, before there is any policy.

    Returns:
        The weights with encoder and auxiliary heads replaced.
    """
    optimizer = make_optimizer(settings.vision_lr, settings.warmup_steps, settings.vision_steps)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(trainable: Any, state: Any, batch: dict[str, jax.Array], key: jax.Array) -> tuple[Any, Any, Any]:
        gradients, parts = jax.grad(vision_loss, has_aux=True)(trainable, batch, key, config)
        updates, state = optimizer.update(gradients, state, trainable)
        return optax.apply_updates(trainable, updates), state, parts

    trainable = {"img": weights["model"]["PaliGemma"]["img"], "auxiliary": weights["auxiliary"]}
    state = optimizer.init(trainable)
    batches = arrays.batches(settings.batch_size, settings.seed + 2, 0)
    keys = jax.random.split(jax.random.key(settings.seed + 2), settings.vision_steps)
    parts: dict[str, jax.Array] = {}
    for key, batch in track(zip(keys, batches, strict=False), "image encoder", total=settings.vision_steps):
        trainable, state, parts = step(trainable, state, batch, key)
    if parts:
        print("image encoder: " + ", ".join(f"{name} {float(value):.4f}" for name, value in parts.items()))
    paligemma = weights["model"]["PaliGemma"] | {"img": trainable["img"]}
    return {"model": weights["model"] | {"PaliGemma": paligemma}, "auxiliary": trainable["auxiliary"]}


def initial_state(trainable: dict[str, Any], settings: PretrainSettings) -> dict[str, Any]:
    """Weights, their average, and the optimiser's state before the first step."""
    return {
        "trainable": trainable,
        "average": jax.tree.map(jnp.copy, trainable["model"]),
        "optimizer": _optimizer(settings).init(trainable),
        "step": jnp.zeros((), jnp.int32),
    }


@functools.partial(jax.jit, static_argnames=("config", "settings"), donate_argnames=("state",))
def train_step(
    state: dict[str, Any], batch: dict[str, jax.Array], config: ModelConfig, settings: PretrainSettings
) -> tuple[dict[str, Any], dict[str, jax.Array]]:
    """One optimiser step; the noise depends on the seed and the step number alone."""
    key = jax.random.fold_in(jax.random.key(settings.seed + 1), state["step"])
    (_, parts), gradients = jax.value_and_grad(pretraining_loss, has_aux=True)(
        state["trainable"], batch, key, config, settings.draws
    )
    updates, optimizer = _optimizer(settings).update(gradients, state["optimizer"], state["trainable"])
    trainable: Any = optax.apply_updates(state["trainable"], updates)
    # Early on the average follows the weights, or it would remember the initialisation.
    decay = jnp.minimum(settings.ema, (1 + state["step"]) / (10 + state["step"]))
    average = jax.tree.map(lambda a, w: decay * a + (1 - decay) * w, state["average"], trainable["model"])
    parts["grad_norm"] = optax.global_norm(gradients)
    return {"trainable": trainable, "average": average, "optimizer": optimizer, "step": state["step"] + 1}, parts


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write the whole training state, whole or not at all."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, *leaves)
    os.replace(partial, path)


def load_state(template: dict[str, Any], path: Path) -> dict[str, Any]:
    """Read a training state that `save_state` wrote for the same sizes."""
    with np.load(path) as file:
        leaves = [jnp.asarray(file[f"arr_{i}"]) for i in range(len(file.files))]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def pretrain(
    config: ModelConfig,
    tokenizer: bytes,
    arrays: TrainingArrays,
    settings: PretrainSettings,
    directory: Path,
    start: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train, or go on training from the state in `directory`.

    Args:
        config: sizes.
        tokenizer: serialised SentencePiece model.
        arrays: prepared demonstrations.
        settings: hyperparameters.
        directory: gets `state.npz` and `log.csv`.
        start: {"model", "auxiliary"} weights of an earlier cycle; None begins with random ones and the encoder's tasks.

    Returns:
        The last state: "trainable" is the `start` of another cycle, "average" are the weights to save, openpi's tree.

    Raises:
        Stopped: Ctrl-C or SIGTERM, after the state was saved.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "state.npz"
    weights = initial_weights(config, tokenizer, arrays.objects.shape[1], settings.seed)
    if path.exists():
        state = load_state(initial_state(weights, settings), path)
    else:
        state = initial_state(start or prepare_vision(weights, config, arrays, settings), settings)
        save_state(state, path)
    first = int(state["step"])
    note = TextColumn("{task.fields[note]}")
    columns = (TextColumn("pretrain"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note)
    batches = arrays.batches(settings.batch_size, settings.seed, first)
    with deferred_interrupt() as interrupt, Progress(*columns) as progress, (directory / "log.csv").open("a") as log:
        bar = progress.add_task("pretrain", total=settings.steps, completed=first, note="")
        for step, batch in zip(range(first, settings.steps), batches, strict=False):
            state, parts = train_step(state, batch, config, settings)
            stop = interrupt.signal if step + 1 < settings.steps else 0
            if step % LOG_INTERVAL == 0:
                progress.update(bar, note=_log(log, step, parts))
            if (step + 1) % settings.save_interval == 0 or step + 1 == settings.steps or stop:
                save_state(state, path)
            if stop:
                raise Stopped(f"stopped at step {step + 1} of {settings.steps}", stop)
            progress.advance(bar)
    return state


def _log(log: IO[str], step: int, parts: dict[str, jax.Array]) -> str:
    """One line of the log; returns it for the terminal."""
    values = {name: float(value) for name, value in parts.items()}
    if not np.isfinite(values["flow"]):
        raise FloatingPointError(f"step {step}: the loss is {values['flow']}")
    log.write(f"{step}," + ",".join(f"{value:.6f}" for value in values.values()) + "\n")
    log.flush()
    return " ".join(f"{name} {value:.4f}" for name, value in values.items())


def to_bfloat16(params: Any) -> Any:
    """Round every leaf to bfloat16, which halves what has to be stored; the network still computes in float32."""
    return unflatten({path: leaf.astype(jnp.bfloat16) for path, leaf in flatten(params).items()})
