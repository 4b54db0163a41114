"""Full-size pi0.5 on a GPU: time, peak memory and TFLOP/s of a step with `lora`, its fair baseline and steering.

Needs an accelerator; weights are random (their values change no time). Each candidate runs in a process of its own, so
that its peak is its own. `openpi` is openpi's own LoRA step, where openpi can be imported.

    python benchmarks/gpu_finetune.py                # writes benchmarks/results/gpu_finetune.json
    python benchmarks/gpu_finetune.py --only steering steering-24-gib
    python benchmarks/gpu_finetune.py --dry-run      # traces every candidate at full size, without weights or GPU
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import openpi_reference
from bench_finetune import STOCK
from measure import save
from random_model import random_observation, random_params

from robosteer_model.config import pi05
from robosteer_model.params import flatten, param_shapes, unflatten
from robosteer_training.finetune.flops import Shapes, step_flops
from robosteer_training.finetune.frozen import frozen_leaves, place_frozen
from robosteer_training.finetune.loss import draw
from robosteer_training.finetune.placement import Placement
from robosteer_training.finetune.ready import start_state
from robosteer_training.finetune.recipes import recipe_by_name
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.finetune.spec import AdapterSpec, spread_heads
from robosteer_training.finetune.state import TrainState
from robosteer_training.finetune.step import make_step

CONFIG = pi05(action_horizon=15)
VIEWS, PROMPT = 2, 60
GOAL_S_PER_STEP = 0.36
OPENPI = "openpi"
ALL = {"prune": True, "skip_dead": True, "vision_cache": True}
# name -> (recipe, changes of openpi's shapes)
CANDIDATES: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", {}),
    "lora-frozen-vision": ("lora-frozen-vision", {}),
    "steering-openpi-shapes": ("steering", {}),
    "steering-light": ("steering", ALL | {"remat": "light"}),
    "steering": ("steering", ALL | {"remat": "off"}),
    "steering-24-gib": ("steering", ALL | {"remat": "off", "micro_batch": 4}),
}


def make_batch(size: int, encoded: bool) -> dict[str, Any]:
    """Random rows of two views and 60 prompt tokens."""
    rng = np.random.default_rng(1)
    resolution, width = CONFIG.siglip.image_resolution, CONFIG.paligemma.width
    shape = (size, CONFIG.siglip.num_tokens, width)

    def image() -> np.ndarray:
        if encoded:
            return rng.standard_normal(shape, np.float32).astype(ml_dtypes.bfloat16)
        return rng.integers(0, 255, (size, *resolution, 3)).astype(np.uint8)

    chunk = (size, CONFIG.action_horizon, CONFIG.action_dim)
    noise, times = draw(jax.random.key(0), chunk)
    return {
        "image": {name: image() for name in CONFIG.cameras[:VIEWS]},
        "state": np.zeros((size, CONFIG.action_dim), np.float32),
        "tokenized_prompt": rng.integers(3, 1000, (size, PROMPT)).astype(np.int32),
        "tokenized_prompt_mask": np.ones((size, PROMPT), bool),
        "actions": rng.standard_normal(chunk, np.float32),
        "noise": np.asarray(noise),
        "time": np.asarray(times),
    }


def _chosen(name: str, batch_size: int) -> tuple[AdapterSpec, TrainSettings]:
    recipe, changes = CANDIDATES[name]
    spec = AdapterSpec(CONFIG, recipe_by_name(recipe), spread_heads(CONFIG, 20))
    return spec, TrainSettings(batch_size=batch_size, **(STOCK | changes))


def timed(steps: int, run: Callable[[], Any]) -> float:
    """Median seconds of a step; the first one does not count."""
    times = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def row(name: str, batch_size: int, micro_batch: int, compile_s: float, seconds: float) -> dict[str, Any]:
    """What is known of every candidate."""
    device = jax.local_devices()[0]
    return {
        "candidate": name,
        "device": device.device_kind,
        "batch_size": batch_size,
        "micro_batch": micro_batch or batch_size,
        "compile_s": round(compile_s, 1),
        "s_per_step": round(seconds, 4),
        "minutes_for_5000_steps": round(seconds * 5000 / 60, 1),
        "peak_gib": round((device.memory_stats() or {}).get("peak_bytes_in_use", 0) / 2**30, 2),
    }


def measure_openpi(batch_size: int, steps: int) -> dict[str, Any]:
    """Time openpi's own LoRA step in this process."""
    config = pi05(lora=True, action_horizon=CONFIG.action_horizon)
    step, (trained, frozen), moments = openpi_reference.lora_step(config, random_params(config))
    rows, rng = [], np.random.default_rng(1)
    for _ in range(batch_size):
        rows.append(random_observation(config, rng, VIEWS, PROMPT, config.max_token_len))
    batch = openpi_reference.observation(jax.tree.map(lambda *leaves: np.concatenate(leaves), *rows))
    actions = rng.standard_normal((batch_size, config.action_horizon, config.action_dim), np.float32)
    start = time.perf_counter()
    program = step.lower(trained, moments, frozen, batch, actions).compile()
    compile_s = time.perf_counter() - start
    kept: dict[str, Any] = {"state": (trained, moments)}
    del trained, moments

    def run() -> Any:
        *state, kept["loss"] = program(*kept["state"], frozen, batch, actions)
        kept["state"] = tuple(state)
        return kept

    seconds = timed(steps, run)
    return row(OPENPI, batch_size, 0, compile_s, seconds) | {"loss": float(kept["loss"])}


def measure(name: str, batch_size: int, steps: int) -> dict[str, Any]:
    """Time one candidate's step in this process."""
    if name == OPENPI:
        return measure_openpi(batch_size, steps)
    spec, settings = _chosen(name, batch_size)
    placement, params = Placement(), random_params(CONFIG)
    step = make_step(spec, settings, settings.remat, placement)
    state, _ = start_state(params, spec, settings, None, "")
    state = jax.tree.map(placement.put, state, step.state_shardings(state))
    frozen = place_frozen(frozen_leaves(params, spec, settings), placement)
    batch = placement.rows(make_batch(batch_size, settings.vision_cache), batch_size)
    start = time.perf_counter()
    program = step.compiled(state, frozen, batch)
    compile_s = time.perf_counter() - start
    kept: dict[str, Any] = {"state": state}
    del state

    def run() -> Any:
        kept["state"], kept["measured"] = program(kept["state"], frozen, batch, np.bool_(True))
        return kept

    seconds = timed(steps, run)
    flops = step_flops(spec, settings, step.work, Shapes(VIEWS, PROMPT, settings.vision_cache))
    return row(name, batch_size, settings.micro_batch, compile_s, seconds) | {
        "tflop_per_step": round(flops / 1e12, 2),
        "tflop_per_s": round(flops / seconds / 1e12, 1),
        "loss": float(kept["measured"]["loss"]),
    }


def dry_run(name: str, batch_size: int) -> dict[str, Any]:
    """Trace one candidate's step at full size: its shapes fit together, and this is what it is given."""
    spec, settings = _chosen(name, batch_size)
    step = make_step(spec, settings, settings.remat, Placement())
    # Arrays of any size that take no memory.
    zero = np.zeros((), ml_dtypes.bfloat16)
    params = unflatten({path: np.broadcast_to(zero, x.shape) for path, x in flatten(param_shapes(CONFIG)).items()})
    frozen = unflatten(frozen_leaves(params, spec, settings))
    adapter = dict(spec.leaves)
    moments = jax.eval_shape(settings.optimizer().init, adapter)
    state = TrainState(jax.ShapeDtypeStruct((), np.int32), adapter, moments)
    batch = make_batch(batch_size, settings.vision_cache)
    given = jax.eval_shape(lambda *trees: trees, state, frozen, batch)
    step.lowered(*given)

    def gib(tree: Any) -> float:
        return round(sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)) / 2**30, 2)

    flops = step_flops(spec, settings, step.work, Shapes(VIEWS, PROMPT, settings.vision_cache))
    sizes = {"frozen_gib": gib(frozen), "trained_and_moments_gib": gib(state), "batch_gib": gib(batch)}
    return {"candidate": name, "tflop_per_step": round(flops / 1e12, 2), **sizes}


def _in_process_of_its_own(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).resolve()), "--measure", name, "--steps", str(arguments.steps)]
    command += ["--batch-size", str(arguments.batch_size)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"candidate": name, "failed": f"exit code {done.returncode}; see the output above"}
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Run the benchmark; with --measure, one candidate in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [OPENPI, *CANDIDATES]
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--only", nargs="*", choices=names, default=names)
    parser.add_argument("--measure", choices=names, help=argparse.SUPPRESS)
    parser.add_argument("--dry-run", action="store_true", help="trace only; needs no accelerator")
    arguments = parser.parse_args()
    if arguments.dry_run:
        for name in set(arguments.only) - {OPENPI}:
            print(json.dumps(dry_run(name, arguments.batch_size)), flush=True)
        return
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.batch_size, arguments.steps)))
        return
    # Asked in a process of its own: this one must not hold the device.
    question = "import jax; print(jax.default_backend())"
    backend = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, check=True).stdout
    if backend.strip() == "cpu":
        parser.exit(1, "gpu_finetune: found no accelerator, expected one; run it where a GPU is\n")
    rows = []
    for name in arguments.only:
        rows.append(_in_process_of_its_own(name, arguments))
        print(rows[-1], flush=True)
    save("gpu_finetune", {"goal_s_per_step_h200": GOAL_S_PER_STEP, "candidates": rows})


if __name__ == "__main__":
    main()
