"""Claim: measuring a head by an edit of the suffix costs a fraction of a pass, because all heads share one prefix.

By default a model of a few million parameters on this machine: seconds per head of causal ablation in the suffix, and
in the prefix, where every head needs a whole pass. `--full` takes full-size pi0.5 with random weights (an accelerator
with 24 GiB or more): extraction of 2,518 frames, selection, and causal ablation and REINFORCE extrapolated to the
settings that the Robotic Steering paper reports as 58 and 93 minutes beside 0.2 for k-NN.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from measure import save, seconds
from random_model import random_params

from robosteer_model.config import GemmaConfig, ModelConfig, SiglipConfig, stock_config
from robosteer_training.frames import Frames
from robosteer_training.heads.cache import CacheSettings, fill_cache
from robosteer_training.heads.cma import CmaSettings, causal_effects
from robosteer_training.heads.edited_loss import EditedLoss, LossSettings
from robosteer_training.heads.knn import score_heads
from robosteer_training.heads.reinforce import ReinforceSettings, learn_probabilities

PAPER_FRAMES, EPISODES, PROMPT_TOKENS = 2518, 20, 60


def small_config() -> ModelConfig:
    """Shapes of pi0.5, a hundredth of its width and depth; two views of 64 patches, as long a prompt as pi0.5's."""
    return ModelConfig(
        "pi05",
        GemmaConfig(width=256, depth=6, mlp_dim=1024, num_heads=8, head_dim=32),
        GemmaConfig(width=128, depth=6, mlp_dim=512, num_heads=8, head_dim=32),
        siglip=SiglipConfig(
            width=128, depth=2, mlp_dim=256, num_heads=4, patch_size=(14, 14), image_resolution=(112, 112)
        ),
        vocab_size=1024,
        action_horizon=15,
        dtype="float32",
        discrete_state_input=True,
    )


def random_frames(config: ModelConfig, total: int) -> Frames:
    """Frames of random content."""
    random = np.random.default_rng(1)
    shape = (total, *config.siglip.image_resolution, 3)
    return Frames(
        images={name: random.integers(0, 255, shape, np.uint8) for name in config.cameras[:2]},
        tokens=random.integers(3, 1000, (total, PROMPT_TOKENS)).astype(np.int32),
        tokens_mask=np.ones((total, PROMPT_TOKENS), bool),
        state=np.zeros((total, config.action_dim), np.float32),
        actions=random.standard_normal((total, config.action_dim)).astype(np.float32),
        episode_index=np.arange(total) * EPISODES // total,
        usable=np.ones(total, bool),
        action_dim=8,
        horizon=config.action_horizon,
    )


def ablation_seconds(params: Any, config: ModelConfig, frames: Frames, stream: Any, settings: CmaSettings) -> float:
    """Seconds per head and 16 frames, once compiled."""
    loss, rows = EditedLoss(params, config, frames, LossSettings(stream)), np.arange(len(frames))
    causal_effects(loss, rows, settings)
    heads = config.paligemma.depth * config.paligemma.num_heads * settings.noise_draws
    return seconds(lambda: causal_effects(loss, rows, settings)) / heads * 16 / settings.frames


def small() -> dict[str, Any]:
    """Suffix against prefix on this machine."""
    config = small_config()
    params, frames = jax.device_put(random_params(config, np.float32)), random_frames(config, 32)
    settings = CmaSettings(noise_draws=1, frames=16, block=16)
    found = {s: ablation_seconds(params, config, frames, s, settings) for s in ("suffix", "prefix")}
    return {"seconds_per_head_of_16_frames": found, "ratio": found["suffix"] / found["prefix"]}


def full() -> dict[str, Any]:
    """Full-size pi0.5."""
    config = stock_config("pi05_droid")
    params, frames = jax.device_put(random_params(config)), random_frames(config, PAPER_FRAMES)
    digests = {"checkpoint_digest": "random", "dataset_digest": "random"}
    with tempfile.TemporaryDirectory() as place:
        warm = random_frames(config, 64)
        fill_cache(Path(place) / "warm", params, config, warm, CacheSettings(block=64), **digests)
        extraction = seconds(
            lambda: fill_cache(Path(place) / "cache", params, config, frames, CacheSettings(block=64), **digests)
        )
        print(f"extraction {extraction:.1f} s", flush=True)
        # Frames of a deep model with random weights are nearly one point, which trained models' frames are not.
        data = random_activations()
        scored = score_heads(*data, m=20).scores  # compiles
        selection = seconds(lambda: score_heads(*data, m=20))
        print(f"selection {selection:.1f} s", flush=True)
        on_cpu = _scores_on_cpu(Path(place) / "scores.npy")
    cma = ablation_seconds(params, config, frames, "suffix", CmaSettings(noise_draws=1, frames=32, block=16))
    print(f"causal ablation {cma:.3f} s per head and 16 frames", flush=True)
    loss, rows = EditedLoss(params, config, frames, LossSettings(kind="actions")), np.arange(len(frames))
    learn_probabilities(loss, rows, ReinforceSettings(steps=1))
    update = seconds(lambda: learn_probabilities(loss, rows, ReinforceSettings(steps=3))) / 3
    return {
        "seconds_extraction_2518_frames": extraction,
        "seconds_selection": selection,
        "scores_same_as_on_the_cpu": bool((scored == on_cpu).all()),
        "largest_difference_of_a_score_from_the_cpu": float(np.abs(scored - on_cpu).max()),
        "minutes_causal_ablation_144_heads_128_frames_2_draws": cma * 144 * 2 * 128 / 16 / 60,
        "minutes_reinforce_600_updates_of_32_masks": update * 600 / 60,
    }


def random_activations() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors of pi0.5's heads (18, F, 8, 256), actions (F, 8) and episode numbers of as many frames."""
    random = np.random.default_rng(3)
    vectors = random.standard_normal((18, PAPER_FRAMES, 8, 256), dtype=np.float32)
    actions = random.standard_normal((PAPER_FRAMES, 8)).astype(np.float32)
    return vectors, actions, np.arange(PAPER_FRAMES) * EPISODES // PAPER_FRAMES


def _scores_on_cpu(out: Path) -> np.ndarray:
    """The same by the program that runs where there is no accelerator, in a process without one."""
    command = [sys.executable, str(Path(__file__).resolve()), "--scores", str(out)]
    subprocess.run(command, env=os.environ | {"JAX_PLATFORMS": "cpu"}, check=True)
    return np.load(out, allow_pickle=False)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="full-size pi0.5; needs an accelerator")
    parser.add_argument("--scores", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.scores:
        np.save(arguments.scores, score_heads(*random_activations(), m=20).scores)
        return
    device = {"device": str(jax.devices()[0].device_kind)}
    if arguments.full:
        save("heads_full", device | full())
    else:
        save("heads", device | small())


if __name__ == "__main__":
    main()
