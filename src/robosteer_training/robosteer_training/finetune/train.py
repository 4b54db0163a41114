"""The training loop: only adapter leaves have gradients and optimiser state; the base model is an argument."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from robosteer_model import pi0
from robosteer_rig.errors import RobosteerError
from robosteer_training.files import json_digest
from robosteer_training.finetune.adapter import Adapter, attach, attached_config, init_adapter
from robosteer_training.finetune.batches import Prefetch, batch_rows
from robosteer_training.finetune.loss import AUGMENTATIONS, batch_loss
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.finetune.spec import AdapterSpec
from robosteer_training.finetune.state import History, TrainState, load_state, save_state
from robosteer_training.frames import Frames, split_episodes
from robosteer_training.interrupt import deferred_interrupt

STATE_FILE = "state.npz"
BAD_BATCH_FILE = "bad_batch.npz"


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
        adapter: trained leaves.
        history: losses and times.
        train_episodes: episodes trained on.
        heldout_episodes: episodes that gave the held-out loss.
    """

    adapter: Adapter
    history: History
    train_episodes: list[int]
    heldout_episodes: list[int]


def train(
    params: Any,
    spec: AdapterSpec,
    frames: Frames,
    settings: TrainSettings,
    directory: Path,
    *,
    source: str = "",
    resume: bool = False,
    progress: Callable[[int, History], None] | None = None,
) -> TrainResult:
    """Train an adapter.

    Args:
        params: base parameters; never changed.
        spec: what is trained.
        frames: the data.
        settings: the numbers.
        directory: where the state lies; `state.npz` is written every `save_every` steps and on Ctrl-C.
        source: digests of base and data; a state of another source is not resumed.
        resume: continue from the saved state, if there is one.
        progress: called after every step with (finished steps, history).

    Raises:
        KeyboardInterrupt: Ctrl-C, after the state was saved.
        RobosteerError: the loss stopped being finite (the state before it is saved), or the state is another run's.
    """
    if frames.image_tokens is not None and settings.augment != "none":
        raise ValueError("cached vision tokens cannot be augmented")
    identity = json_digest({"spec": spec.to_json(), "settings": settings.to_json(), "source": source})
    kept, held_out = split_episodes(frames.episode_index, settings.holdout, settings.seed)
    rows = frames.rows_of(kept)
    adapter = init_adapter(spec, params, settings.seed)
    state = TrainState(jnp.zeros((), jnp.int32), adapter, settings.optimizer().init(adapter))
    history, path = History(), directory / STATE_FILE
    if resume and path.exists():
        state, history = load_state(path, state, identity)
    evaluate = _evaluation(params, spec, frames, settings, held_out)
    save = partial(save_state, path, identity=identity)
    if not history.heldout and len(held_out):
        history.heldout.append((0, evaluate(state.adapter)))

    step_fn = make_step(spec, settings)
    key = jax.random.key(settings.seed + 1)
    first = int(state.step)

    def make_batch(step: int) -> tuple[np.ndarray, dict[str, Any]]:
        chosen = batch_rows(rows, settings.batch_size, settings.seed, step)
        return chosen, frames.gather(chosen)

    steps = range(first, settings.steps)
    with deferred_interrupt() as interrupt, Prefetch(make_batch, steps) as batches:
        for step, (chosen, batch) in zip(steps, batches, strict=True):
            start = time.monotonic()
            state, measured = step_fn(
                state, params, batch, *draw(jax.random.fold_in(key, step), batch["actions"].shape)
            )
            loss = float(measured["loss"])
            if not math.isfinite(loss) or not math.isfinite(float(measured["grad_norm"])):
                _stop_at_bad_batch(directory, save, state, history, step, chosen, loss)
            history.loss.append(loss)
            history.seconds += time.monotonic() - start
            done = step + 1
            last = done == settings.steps
            if len(held_out) and (last or (settings.eval_every and done % settings.eval_every == 0)):
                history.heldout.append((done, evaluate(state.adapter)))
            if progress is not None:
                progress(done, history)
            if last or done % settings.save_every == 0 or interrupt.requested:
                history.waited_s, batches.waited_s = history.waited_s + batches.waited_s, 0.0
                save(state=state, history=history)
            if interrupt.requested:
                raise KeyboardInterrupt
    return TrainResult(state.adapter, history, kept.tolist(), held_out.tolist())


def _stop_at_bad_batch(
    directory: Path,
    save: Callable[..., None],
    state: TrainState,
    history: History,
    step: int,
    chosen: np.ndarray,
    loss: float,
) -> None:
    """The step left the state as it was: save it, name the frames, give up."""
    save(state=state, history=history)
    np.savez(directory / BAD_BATCH_FILE, step=step, rows=chosen)
    raise RobosteerError(
        f"training: found loss {loss} at step {step}, expected a finite number; the state before it and the frames of "
        f"the batch are in {directory}; check these frames or lower --peak-lr"
    )


# Compiled once for all steps and evaluations: the sampler of the time is a large program.
draw = jax.jit(pi0.draw_noise_and_time, static_argnums=1)


@lru_cache(maxsize=4)
def make_step(spec: AdapterSpec, settings: TrainSettings) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """One compiled optimiser step `(state, params, batch, noise, time) -> (state, {"loss", "grad_norm"})`.

    The state's buffers are donated. When loss or gradient are not finite, the state is returned as it was given.
    """
    config, optimizer = attached_config(spec), settings.optimizer()
    augmentation = AUGMENTATIONS[settings.augment]
    key = jax.random.key(settings.seed + 3)

    @partial(jax.jit, donate_argnums=(0,))
    def step(
        state: TrainState, params: Any, batch: dict[str, Any], noise: jax.Array, flow_time: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        change = None if augmentation is None else partial(augmentation, jax.random.fold_in(key, state.step))

        def loss_of(adapter: Adapter) -> jax.Array:
            return jnp.mean(batch_loss(attach(params, adapter, spec), config, batch, noise, flow_time, change))

        loss, grads = jax.value_and_grad(loss_of)(state.adapter)
        norm = optax.tree.norm(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.adapter)
        adapter = jax.tree.map(jnp.add, state.adapter, updates)
        new = TrainState(state.step + 1, adapter, opt_state)
        good = jnp.isfinite(loss) & jnp.isfinite(norm)
        return jax.tree.map(partial(jnp.where, good), new, state), {"loss": loss, "grad_norm": norm}

    return step


def _evaluation(
    params: Any, spec: AdapterSpec, frames: Frames, settings: TrainSettings, held_out: np.ndarray
) -> Callable[[Adapter], float]:
    """A function adapter -> mean loss over fixed held-out frames, noises and times."""
    rows = frames.rows_of(held_out)
    if len(rows) > settings.eval_frames:
        rows = rows[np.linspace(0, len(rows) - 1, settings.eval_frames).round().astype(int)]
    rows = np.repeat(rows, settings.eval_draws)
    size = min(settings.batch_size, max(len(rows), 1))
    key = jax.random.key(settings.seed + 2)

    def evaluate(adapter: Adapter) -> float:
        total = 0.0
        for index, start in enumerate(range(0, len(rows), size)):
            part = rows[start : start + size]
            # Fill the last batch up, count its own rows only: one shape, one program.
            batch = frames.gather(np.resize(part, size))
            drawn = draw(jax.random.fold_in(key, index), batch["actions"].shape)
            values = _row_losses(spec, adapter, params, batch, *drawn)
            total += float(np.asarray(values, np.float64)[: len(part)].sum())
        return total / len(rows)

    return evaluate


@partial(jax.jit, static_argnums=0)
def _row_losses(
    spec: AdapterSpec, adapter: Adapter, params: Any, batch: dict[str, Any], noise: jax.Array, flow_time: jax.Array
) -> jax.Array:
    """(B,) loss of each row."""
    return batch_loss(attach(params, adapter, spec), attached_config(spec), batch, noise, flow_time).mean(-1)
