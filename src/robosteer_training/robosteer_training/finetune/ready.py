"""Everything in its place before the first step: state, frozen weights, program, plan."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from robosteer_model.params import unflatten
from robosteer_model.remat import Remat
from robosteer_training.finetune.adapter import init_adapter
from robosteer_training.finetune.flops import Shapes, step_flops
from robosteer_training.finetune.frozen import frozen_leaves, is_stacked, place_frozen
from robosteer_training.finetune.placement import Placement
from robosteer_training.finetune.plan import Plan, available_bytes, check_weights, choose_step
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.finetune.spec import AdapterSpec
from robosteer_training.finetune.state import History, TrainState, load_state
from robosteer_training.finetune.step import Step, make_step


@dataclasses.dataclass
class Ready:
    """What the loop works with; only `state` changes.

    Attributes:
        state: on the devices.
        frozen: on the devices.
        step: what the program does.
        program: the compiled step.
        plan: memory and time of the steps to go.
    """

    state: TrainState
    frozen: Any
    step: Step
    program: jax.stages.Compiled
    plan: Plan


def start_state(
    params: Mapping[str, Any], spec: AdapterSpec, settings: TrainSettings, file: Path | None, identity: str
) -> tuple[TrainState, History]:
    """A fresh state, or the saved one when `file` is there; host arrays.

    Raises:
        RobosteerError: the file is damaged or another run's.
    """
    adapter = init_adapter(spec, params, settings.seed)
    # AdamW's moments and counters all start at zero.
    empty = jax.eval_shape(settings.optimizer().init, adapter)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), empty)
    state = TrainState(np.int32(0), adapter, zeros)
    if file is not None and file.exists():
        return load_state(file, state, identity)
    return state, History()


def prepare(
    params: Mapping[str, Any],
    state: TrainState,
    spec: AdapterSpec,
    settings: TrainSettings,
    placement: Placement,
    batch: dict[str, Any],
) -> Ready:
    """Plan, compile, place, probe.

    Args:
        params: base parameters.
        state: where to start, host arrays.
        spec: what is trained.
        settings: the numbers.
        placement: where.
        batch: any batch, on the devices.

    Raises:
        RobosteerError: it does not fit.
    """
    leaves = frozen_leaves(params, spec, settings)
    layout = make_step(spec, settings, "off", placement).state_shardings(state)
    parts = _parts(leaves, state, layout, batch, placement)
    available = available_bytes(settings)
    check_weights(parts, available, settings)

    where = {path: _layout(path, leaf, placement) for path, leaf in leaves.items()}

    def make(remat: Remat) -> Step:
        return make_step(spec, settings, remat, placement)

    def arguments(step: Step) -> tuple[Any, Any, Any]:
        shapes = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, layout)
        frozen = {p: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where[p]) for p, x in leaves.items()}
        return shapes, unflatten(frozen), batch

    start = time.monotonic()
    step, program, needed = choose_step(make, arguments, parts, available, settings)
    compiled_s = time.monotonic() - start
    frozen = place_frozen(leaves, placement)
    placed = jax.tree.map(placement.put, state, layout)
    placed, step_s = _probe(program, placed, frozen, batch)
    image = next(iter(batch["image"].values()))
    shapes = Shapes(len(batch["image"]), batch["tokenized_prompt"].shape[1], encoded=image.ndim == 3)
    plan = Plan(
        needed,
        available,
        step.work.remat,
        step_flops(spec, settings, step.work, shapes),
        jax.device_count(),
        settings.steps - int(state.step),
        compiled_s,
        step_s,
    )
    return Ready(placed, frozen, step, program, plan)


def _layout(path: str, leaf: Any, placement: Placement) -> Any:
    return placement.weight(leaf.shape, leaf.nbytes, is_stacked(path))


def _parts(
    leaves: Mapping[str, Any], state: TrainState, layout: TrainState, batch: Any, placement: Placement
) -> dict[str, int]:
    """Bytes per device of what a step is given."""

    def size(shape: tuple[int, ...], itemsize: int, sharding: Any) -> int:
        return int(np.prod(sharding.shard_shape(shape))) * itemsize

    def sizes(tree: Any, shardings: Any) -> int:
        found = jax.tree.map(lambda x, s: size(x.shape, x.dtype.itemsize, s), tree, shardings)
        return sum(jax.tree.leaves(found))

    return {
        "frozen weights": sum(size(x.shape, x.dtype.itemsize, _layout(p, x, placement)) for p, x in leaves.items()),
        "trained weights": sizes(state.adapter, layout.adapter),
        "optimiser": sizes(state.opt_state, layout.opt_state),
        "batch": sum(size(x.shape, x.dtype.itemsize, x.sharding) for x in jax.tree.leaves(batch)),
    }


def _probe(program: jax.stages.Compiled, state: TrainState, frozen: Any, batch: Any) -> tuple[TrainState, float]:
    """Time of one step, after one to warm up; the state comes back as it was (`apply` is False)."""
    seconds = 0.0
    for _ in range(2):
        start = time.monotonic()
        state, measured = program(state, frozen, batch, np.bool_(False))
        jax.block_until_ready(measured)
        seconds = time.monotonic() - start
    return state, seconds
