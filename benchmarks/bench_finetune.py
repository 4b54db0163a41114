"""Claim: a steering step takes at most 0.40 of the time of openpi's LoRA step at openpi's shapes, on the same code.

Every rung of the ladder is one switch more; each switch is also measured alone. Next to the measured ratio stands the
one computed from shapes (`finetune.flops`). The model is a pi0.5 of reduced width and depth with true sequence lengths:
three views of which one is absent, 200 prompt tokens of which 60 are used. All steps are timed in turn in one run.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from measure import interleaved, save

from robosteer_model.config import GemmaConfig, ModelConfig, SiglipConfig, pi05
from robosteer_model.params import flatten, param_shapes, unflatten
from robosteer_training.finetune.flops import Shapes, step_flops
from robosteer_training.finetune.frozen import frozen_leaves, place_frozen
from robosteer_training.finetune.loss import draw
from robosteer_training.finetune.placement import Placement
from robosteer_training.finetune.ready import start_state
from robosteer_training.finetune.recipes import recipe_by_name
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.finetune.spec import AdapterSpec, spread_heads
from robosteer_training.finetune.step import make_step
from robosteer_training.finetune.train import train
from robosteer_training.frames import Frames

BATCH, PROMPT, VIEWS, FRAMES = 1, 60, 2, 48
STOCK = {"prune": False, "skip_dead": False, "remat": "full", "vision_cache": False}
CONFIG = pi05(
    paligemma=GemmaConfig(384, 6, 3072, head_dim=48),
    action_expert=GemmaConfig(192, 6, 768, head_dim=48),
    siglip=SiglipConfig(width=216, depth=6, mlp_dim=808, num_heads=4),
    vocab_size=1024,
    action_horizon=15,
    dtype="float32",
)
ALL = {"prune": True, "skip_dead": True, "vision_cache": True}
BEST = "+ dead layer left out"
# name -> (recipe, changes of the stock settings); `light` is what `--remat auto` takes on a CPU.
LADDER: dict[str, tuple[str, dict[str, Any]]] = {
    "lora at openpi's shapes": ("lora", {}),
    "lora, vision frozen": ("lora-frozen-vision", {}),
    "steering at openpi's shapes": ("steering", {}),
    "+ absent view and padding left out": ("steering", {"prune": True}),
    "+ only large products kept": ("steering", {"prune": True, "remat": "light"}),
    "+ vision tokens cached": ("steering", {"prune": True, "remat": "light", "vision_cache": True}),
    BEST: ("steering", ALL | {"remat": "light"}),
    "+ four flow draws": ("steering", ALL | {"remat": "light", "flow_draws": 4}),
    "all of it, nothing computed again": ("steering", ALL | {"remat": "off"}),
    "all of it, whole layers computed again": ("steering", ALL | {"remat": "full"}),
    "alone: nothing computed again": ("steering", {"remat": "off"}),
    "alone: only large products kept": ("steering", {"remat": "light"}),
    "alone: vision tokens cached": ("steering", {"vision_cache": True}),
    "alone: dead layer left out": ("steering", {"skip_dead": True}),
}


def random_params(config: ModelConfig) -> dict[str, Any]:
    """Random values in every leaf at a weight's usual scale: a fresh model has gates at zero."""
    rng = np.random.default_rng(0)
    flat = {}
    for path, leaf in flatten(param_shapes(config)).items():
        scale = leaf.shape[-2] ** -0.5 if leaf.ndim > 1 else 0.05
        flat[path] = (scale * rng.standard_normal(leaf.shape)).astype(np.float32)
    return unflatten(flat)


def make_frames(config: ModelConfig, encoded: bool) -> Frames:
    """Random frames of two views."""
    rng = np.random.default_rng(1)
    size = config.siglip.image_resolution
    images = {name: rng.integers(0, 255, (FRAMES, *size, 3)).astype(np.uint8) for name in config.cameras[:VIEWS]}
    shape = (1, FRAMES, config.siglip.num_tokens, config.paligemma.width)
    tokens = {name: rng.standard_normal(shape, np.float32) for name in images} if encoded else None
    return Frames(
        images=images,
        tokens=rng.integers(3, config.vocab_size, (FRAMES, PROMPT)).astype(np.int32),
        tokens_mask=np.ones((FRAMES, PROMPT), bool),
        state=np.zeros((FRAMES, config.action_dim), np.float32),
        actions=rng.standard_normal((FRAMES, config.action_dim), np.float32),
        episode_index=np.repeat(np.arange(4), FRAMES // 4),
        usable=np.ones(FRAMES, bool),
        action_dim=8,
        horizon=config.action_horizon,
        image_tokens=tokens,
    )


def prepare(params: dict[str, Any], recipe: str, changes: dict[str, Any]) -> tuple[Callable[[], Any], float, int]:
    """A step to time, its computed operations, and the bytes that it works in."""
    spec = AdapterSpec(CONFIG, recipe_by_name(recipe), spread_heads(CONFIG, 7))
    settings = TrainSettings(batch_size=BATCH, **(STOCK | changes))
    placement = Placement()
    encoded = settings.vision_cache
    step = make_step(spec, settings, settings.remat, placement)
    state, _ = start_state(params, spec, settings, None, "")
    state = jax.tree.map(placement.put, state, step.state_shardings(state))
    frozen = place_frozen(frozen_leaves(params, spec, settings), placement)
    batch = make_frames(CONFIG, encoded).gather(np.arange(BATCH))
    noise, time = draw(jax.random.key(0), batch["actions"].shape, settings.flow_draws)
    batch = placement.rows(batch | {"noise": np.asarray(noise), "time": np.asarray(time)}, BATCH)
    program = step.compiled(state, frozen, batch)
    memory = program.memory_analysis()
    kept = {"state": state}

    def run() -> None:
        # The state comes back as it was: a step that is not applied takes as long as one that is.
        kept["state"], measured = program(kept["state"], frozen, batch, np.bool_(False))
        jax.block_until_ready(measured)

    flops = step_flops(spec, settings, step.work, Shapes(VIEWS, PROMPT, encoded))
    return run, flops, 0 if memory is None else memory.temp_size_in_bytes


def idle_share(params: dict[str, Any], steps: int) -> float:
    """Share of the time in which training waits for its input pipeline."""
    spec = AdapterSpec(CONFIG, recipe_by_name("steering"), spread_heads(CONFIG, 7))
    settings = TrainSettings(steps=steps, batch_size=BATCH, holdout=0)
    with tempfile.TemporaryDirectory() as place:
        done = train(params, spec, make_frames(CONFIG, encoded=True), settings, Path(place))
    return done.history.idle_share


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    params = random_params(CONFIG)
    prepared = {name: prepare(params, *rung) for name, rung in LADDER.items()}
    times = interleaved({name: run for name, (run, _, _) in prepared.items()}, arguments.repeats)
    reference = next(iter(LADDER))
    fair = "steering at openpi's shapes"

    def ratio(values: dict[str, float], name: str, base: str = reference) -> float:
        return round(values[name] / values[base], 4)

    flops = {name: operations for name, (_, operations, _) in prepared.items()}
    rows = [
        {
            "rung": name,
            "seconds": round(times[name], 4),
            "gigaflop": round(flops[name] / 1e9, 2),
            "gigaflop_per_s": round(flops[name] / times[name] / 1e9, 2),
            "ratio_to_lora": ratio(times, name),
            "computed_ratio_to_lora": ratio(flops, name),
            "ratio_to_steering_at_openpi_shapes": ratio(times, name, fair),
            "computed_ratio_to_steering_at_openpi_shapes": ratio(flops, name, fair),
            "working_memory_mib": round(prepared[name][2] / 2**20, 1),
        }
        for name in LADDER
    ]
    best = partial(ratio, times)(BEST)
    save("finetune", {"claim_ratio": 0.40, "ratio": best, "ladder": rows, "idle_share": idle_share(params, 20)})


if __name__ == "__main__":
    main()
