"""Checks four optimiser steps: losses, gradient norms, which leaves train, and where they end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from robosteer_model import pi0
from robosteer_model.config import ModelConfig
from robosteer_model.errors import ModelError
from robosteer_model.freeze import split_trainable
from robosteer_model.golden.model_file import (
    DTYPES,
    Arrays,
    load_arrays,
    model_config,
    model_observation,
    model_params,
)
from robosteer_model.golden.report import Comparison, compare, compare_exact, miss
from robosteer_model.optimizer import AdamW, CosineSchedule
from robosteer_model.params import Tree, flatten, merge, unflatten

LORA_SCALE = 0.2  # How the starting point was made from the model file: it keeps the problem well conditioned.
LOSS_TOLERANCE = {"f32": 1e-4, "bf16": 2e-2}
PARAMETER_TOLERANCE = 5e-5  # absolute


def claims(keys: frozenset[str]) -> frozenset[str]:
    """Every key of a file with the names of trainable leaves."""
    return keys if {"trainable_names", "config_json"} <= keys else frozenset()


def check(path: Path) -> Iterator[Comparison]:
    """Run the steps from the model file beside this one (`<set>_train_<kind>.npz` -> `<set>_<kind>.npz`)."""
    expected = load_arrays(path)
    model_path = path.with_name(path.name.replace("_train_", "_", 1))
    if model_path == path or not model_path.is_file():
        raise ModelError(f"golden: {path} needs the model file {model_path.name} beside it")
    model = load_arrays(model_path)
    settings = json.loads(str(expected["config_json"]))
    for short in DTYPES:
        if f"{short}/loss_per_step" not in expected:
            continue
        trained, frozen, losses, norms = _train(model, settings, model_config({**model, **expected}, short))
        yield compare(f"{short}/loss_per_step", losses, expected[f"{short}/loss_per_step"], LOSS_TOLERANCE[short])
        norm_name = f"{short}/grad_norm_per_step"
        yield compare(norm_name, norms, expected[norm_name], LOSS_TOLERANCE[short])
        if short == "f32":
            yield from _compare_leaves(expected, flatten(trained), flatten(frozen))


def _compare_leaves(expected: Arrays, trained: dict[str, Any], frozen: dict[str, Any]) -> Iterator[Comparison]:
    yield compare_exact("trainable_names", sorted(trained), sorted(expected["trainable_names"].tolist()))
    yield compare_exact("frozen_names", sorted(frozen), sorted(expected["frozen_names"].tolist()))
    for name, value in expected.items():
        if not name.startswith("trainable_after_"):
            continue
        leaf = name.split("/", 1)[1]
        if leaf not in trained:
            yield miss(name, "not trainable in our model")
        else:
            yield compare(name, trained[leaf], value, 0.0, floor=PARAMETER_TOLERANCE)


def _train(model: Arrays, settings: dict[str, Any], config: ModelConfig) -> tuple[Any, Any, list[float], list[float]]:
    """Trainable and frozen leaves after the steps; loss and gradient norm before each."""
    flat = flatten(model_params(model))
    start = unflatten({path: leaf * jnp.float32(LORA_SCALE) if "lora" in path else leaf for path, leaf in flat.items()})
    trainable, frozen = split_trainable(start, config)
    frozen = jax.tree.map(lambda leaf: leaf.astype(settings["frozen_dtype"]), frozen)
    optimiser = AdamW(**settings["optimizer"]).create(CosineSchedule(**settings["lr_schedule"]).create())
    observation = model_observation(model)
    targets = tuple(jnp.asarray(model[f"input/{name}"]) for name in ("actions", "noise", "time"))

    @jax.jit
    def step(trainable: Tree, frozen: Tree, state: Any) -> Any:
        def loss(trainable: Tree) -> jax.Array:
            return jnp.mean(pi0.flow_loss(merge(trainable, frozen), config, observation, *targets))

        value, gradients = jax.value_and_grad(loss)(trainable)
        updates, state = optimiser.update(gradients, state, trainable)
        return optax.apply_updates(trainable, updates), state, value, optax.tree.norm(gradients)

    state = optimiser.init(trainable)
    losses, norms = [], []
    for _ in range(settings["steps"]):
        trainable, state, value, norm = step(trainable, frozen, state)
        losses.append(float(value))
        norms.append(float(norm))
    return trainable, frozen, losses, norms
