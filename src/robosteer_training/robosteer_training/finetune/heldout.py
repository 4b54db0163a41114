"""What the policy does on episodes that it has not seen: the loss, and the error of sampled actions."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_model import pi0, pi0_fast
from robosteer_model.config import ModelConfig
from robosteer_model.flow_training import read_prefix
from robosteer_training.finetune.adapter import Adapter, attach, attached_config
from robosteer_training.finetune.loss import batch_loss, draw
from robosteer_training.finetune.step import Step
from robosteer_training.frames import Frames, observation_of

SAMPLING_STEPS = 10


@dataclasses.dataclass(frozen=True)
class Heldout:
    """Fixed frames, noises and times, so that every measurement asks the same.

    Attributes:
        step: gives model, settings and placement.
        frames: the data.
        rows: held-out frames; may be empty.
    """

    step: Step
    frames: Frames
    rows: np.ndarray

    @cached_property
    def _size(self) -> int:
        """Rows of one measurement batch: what a training step holds at once, at least one row per device."""
        at_once = self.step.settings.batch_size // self.step.settings.micro_batches
        devices = jax.device_count()
        return max(min(at_once, max(len(self.rows), 1)) // devices, 1) * devices

    def loss(self, adapter: Adapter, frozen: Any) -> float:
        """Mean training loss."""
        settings = self.step.settings
        rows = np.repeat(_spread(self.rows, settings.eval_frames), settings.eval_draws)
        values = self._over_batches(rows, lambda batch: _row_losses(self.step, adapter, frozen, batch))
        return float(values.mean())

    def action_error(self, adapter: Adapter, frozen: Any) -> float | None:
        """Mean absolute error of sampled actions over chunks and the robot's dimensions, in normalised units.

        FAST models write tokens instead: the share of action tokens that are not the most likely one.
        """
        if not self.step.settings.action_frames or not len(self.rows):
            return None
        rows = _spread(self.rows, self.step.settings.action_frames)
        dims = self.frames.action_dim
        values = self._over_batches(rows, lambda batch: _row_errors(self.step, dims, adapter, frozen, batch))
        return float(values.mean())

    def _over_batches(self, rows: np.ndarray, measure: Any) -> np.ndarray:
        """(len(rows),) what `measure` gives for each row."""
        placement, found = self.step.placement, []
        config = self.step.spec.config
        for index, start in enumerate(range(0, len(rows), self._size)):
            part = rows[start : start + self._size]
            # Fill the last batch up, count its own rows only: one shape, one program.
            whole = np.resize(part, self._size)
            key = jax.random.fold_in(jax.random.key(self.step.settings.seed + 2), index)
            noise, time = draw(key, (self._size, config.action_horizon, config.action_dim))
            mine = placement.local_rows(self._size)
            batch = self.frames.gather(whole[mine])
            batch |= {"noise": np.asarray(noise)[mine], "time": np.asarray(time)[mine]}
            values = placement.fetch(measure(placement.rows(batch, self._size)))
            found.append(np.asarray(values, np.float64)[: len(part)])
        return np.concatenate(found)


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many rows, evenly over all of them."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def _joined(step: Step, adapter: Adapter, frozen: Any) -> tuple[Any, ModelConfig]:
    return attach(frozen, adapter, step.spec, short=step.work.skip_dead), attached_config(step.spec)


def _measured(function: Any) -> Any:
    """Compile a measurement; its result is copied to every device, so that every process can read it."""

    def run(step: Step, *arguments: Any) -> jax.Array:
        return jax.lax.with_sharding_constraint(function(step, *arguments), step.placement.everywhere)

    return run


def _losses(step: Step, adapter: Adapter, frozen: Any, batch: dict[str, Any]) -> jax.Array:
    params, config = _joined(step, adapter, frozen)
    return batch_loss(params, config, batch, batch["noise"], batch["time"], None, step.work).mean(-1)


def _errors(step: Step, dims: int, adapter: Adapter, frozen: Any, batch: dict[str, Any]) -> jax.Array:
    params, config = _joined(step, adapter, frozen)
    observation = observation_of(batch)
    if config.model_type == "pi0_fast":
        predicted = jnp.argmax(pi0_fast.text_pass(params, config, observation).logits, axis=-1)
        weights = batch["token_loss_mask"][:, 1:]
        wrong = (predicted != observation.tokenized_prompt[:, 1:]) * weights
        return jnp.sum(wrong, axis=1) / jnp.maximum(jnp.sum(weights, axis=1), 1)
    prefilled = read_prefix(params, config, observation)
    noise = batch["noise"][:, 0]
    actions, _ = pi0.denoise(params, config, prefilled, observation.state, noise, num_steps=SAMPLING_STEPS)
    return jnp.mean(jnp.abs(actions - batch["actions"])[..., :dims], axis=(1, 2))


_row_losses = jax.jit(_measured(_losses), static_argnums=0)
_row_errors = jax.jit(_measured(_errors), static_argnums=(0, 1))
