"""One optimiser step as a compiled program, and what it needs."""

from __future__ import annotations

import dataclasses
from functools import cached_property, lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from robosteer_training.finetune.adapter import Adapter, attach, attached_config
from robosteer_training.finetune.frozen import skips_dead
from robosteer_training.finetune.loss import AUGMENTATIONS, Work, batch_loss
from robosteer_training.finetune.placement import Placement
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.finetune.spec import AdapterSpec
from robosteer_training.finetune.state import TrainState

Batch = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Step:
    """`(state, frozen, batch, apply) -> (state, {"loss", "grad_norm"})` for one choice of everything static.

    The state's buffers are donated. When loss or gradient are not finite, or `apply` is False (to measure the time of
    a step), the state is returned as it was given.

    Attributes:
        spec: what is trained.
        settings: the numbers.
        work: what is computed for the loss.
        placement: where.
    """

    spec: AdapterSpec
    settings: TrainSettings
    work: Work
    placement: Placement

    def state_shardings(self, state: Any) -> Any:
        """Layout of a state (arrays or shapes)."""

        def layout(path: Any, leaf: Any) -> Any:
            name = next((key.key for key in reversed(path) if isinstance(key, jax.tree_util.DictKey)), "")
            nbytes = int(np.prod(leaf.shape)) * leaf.dtype.itemsize
            return self.placement.weight(leaf.shape, nbytes, stacked="/layers/" in str(name) or "/img/" in str(name))

        return jax.tree_util.tree_map_with_path(layout, state)

    def compiled(self, state: TrainState, frozen: Any, batch: Batch) -> jax.stages.Compiled:
        """The program for arguments of these shapes and layouts (arrays or `jax.ShapeDtypeStruct`)."""
        leaves = jax.tree.leaves((state, frozen, batch))
        key = str([(leaf.shape, str(leaf.dtype), str(leaf.sharding)) for leaf in leaves])
        if key not in self._programs:
            self._programs[key] = self.lowered(state, frozen, batch).compile()
        return self._programs[key]

    def lowered(self, state: TrainState, frozen: Any, batch: Batch) -> jax.stages.Lowered:
        """The traced program before it is compiled."""
        out = (self.state_shardings(state), self.placement.everywhere)
        jitted = jax.jit(self._run, donate_argnums=(0,), out_shardings=out)
        return jitted.lower(state, frozen, batch, np.bool_(True))

    @cached_property
    def _programs(self) -> dict[str, jax.stages.Compiled]:
        return {}

    def _run(
        self, state: TrainState, frozen: Any, batch: Batch, apply: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        loss, grads = self._gradients(state, frozen, batch)
        grads = self._owned(grads, state.step)
        norm = optax.tree.norm(grads)
        updates, opt_state = self.settings.optimizer().update(grads, state.opt_state, state.adapter)
        adapter = jax.tree.map(jnp.add, state.adapter, updates)
        new = TrainState(state.step + 1, adapter, opt_state)
        good = jnp.isfinite(loss) & jnp.isfinite(norm) & apply
        return jax.tree.map(partial(jnp.where, good), new, state), {"loss": loss, "grad_norm": norm}

    def _gradients(self, state: TrainState, frozen: Any, batch: Batch) -> tuple[jax.Array, Adapter]:
        """Mean loss and gradient over the batch, micro-batch by micro-batch."""
        count = self.settings.micro_batches
        key = jax.random.fold_in(jax.random.key(self.settings.seed + 3), state.step)
        if count == 1:
            return jax.value_and_grad(self._loss)(state.adapter, frozen, batch, key)
        # Strided, so that every device has rows of its own in every micro-batch.
        parts = jax.tree.map(lambda x: x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1), batch)

        def accumulate(total: Any, part: tuple[Batch, jax.Array]) -> tuple[Any, None]:
            found = jax.value_and_grad(self._loss)(state.adapter, frozen, part[0], jax.random.fold_in(key, part[1]))
            return jax.tree.map(jnp.add, total, found), None

        zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.adapter))
        total, _ = jax.lax.scan(accumulate, zero, (parts, jnp.arange(count)))
        return jax.tree.map(lambda x: x / count, total)

    def _loss(self, adapter: Adapter, frozen: Any, batch: Batch, key: jax.Array) -> jax.Array:
        augmentation = AUGMENTATIONS[self.settings.augment]
        encoded = next(iter(batch["image"].values())).ndim == 3
        change = None if augmentation is None or encoded else partial(augmentation, key)
        params = attach(frozen, adapter, self.spec, short=self.work.skip_dead)
        config = attached_config(self.spec)
        return jnp.mean(batch_loss(params, config, batch, batch["noise"], batch["time"], change, self.work))

    def _owned(self, grads: Adapter, step: jax.Array) -> Adapter:
        """Disjoint multi-task training: a step of one task teaches that task's heads only."""
        owners = np.array(self.spec.owners)
        if not owners.size:
            return grads
        mine = jnp.asarray(owners) == step % (int(owners.max()) + 1)

        def mask(path: str, leaf: jax.Array) -> jax.Array:
            return leaf * mine.reshape(-1, 1, 1) if path.startswith(("head_", "whole_")) else leaf

        return {path: mask(path, leaf) for path, leaf in grads.items()}


@lru_cache(maxsize=8)
def make_step(spec: AdapterSpec, settings: TrainSettings, remat: Any, placement: Placement) -> Step:
    """The step for some settings; the same arguments give the same object, with its compiled programs."""
    return Step(spec, settings, Work(settings.prune, skips_dead(spec, settings), remat), placement)
