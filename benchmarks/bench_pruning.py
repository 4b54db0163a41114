"""Claim: leaving out the absent camera and the prompt's padding saves a large part of an inference, exactly.

Compares pi0.5 at openpi's shapes (three cameras of which one is absent, 200 prompt tokens) with ours (two cameras, the
prompt's own length) in one run, on a model of reduced width but true sequence lengths.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np
from measure import interleaved, save

from robosteer_model import pi0
from robosteer_model.config import GemmaConfig, SiglipConfig, pi05
from robosteer_model.observation import Observation
from robosteer_model.params import init_params

PROMPT_TOKENS = 60


def main() -> None:
    """Run the benchmark."""
    config = pi05(
        paligemma=GemmaConfig(256, 6, 1024, head_dim=32),
        action_expert=GemmaConfig(128, 6, 512, head_dim=32),
        siglip=SiglipConfig(width=144, depth=6, mlp_dim=576, num_heads=4),
        vocab_size=1024,
        action_horizon=15,
        dtype="float32",
    )
    random = np.random.default_rng(0)
    # A fresh pi0.5 ignores its prefix (all gates are zero): noise in every leaf gives the comparison a meaning.
    fresh = init_params(config, jax.random.key(0))
    params = jax.tree.map(lambda leaf: leaf + 0.05 * random.standard_normal(leaf.shape, np.float32), fresh)
    shape = (1, *config.siglip.image_resolution, 3)
    images = {name: random.uniform(-1, 1, shape).astype(np.float32) for name in config.cameras}
    present = dict(zip(config.cameras, np.array([[True], [True], [False]]), strict=True))
    length = np.arange(config.max_token_len)[None]
    full = Observation(
        images=images,
        image_masks=present,
        state=np.zeros((1, config.action_dim), np.float32),
        tokenized_prompt=random.integers(3, 1000, (1, config.max_token_len)).astype(np.int32),
        tokenized_prompt_mask=length < PROMPT_TOKENS,
    )
    kept = config.cameras[:2]
    pruned = dataclasses.replace(
        full,
        images={name: images[name] for name in kept},
        image_masks={name: present[name] for name in kept},
        tokenized_prompt=full.tokenized_prompt[:, :PROMPT_TOKENS],
        tokenized_prompt_mask=full.tokenized_prompt_mask[:, :PROMPT_TOKENS],
    )
    noise = random.standard_normal((1, config.action_horizon, config.action_dim)).astype(np.float32)
    sample = jax.jit(functools.partial(pi0.sample_actions, config=config), static_argnames=("num_steps",))

    def run(observation: Observation) -> np.ndarray:
        return np.asarray(sample(params, observation=observation, noise=noise)[0])

    times = interleaved({"openpi_shapes": lambda: run(full), "pruned": lambda: run(pruned)}, repeats=5)
    difference = float(np.abs(run(full) - run(pruned)).max())
    save(
        "pruning",
        {
            "seconds_per_inference": times,
            "ratio": times["pruned"] / times["openpi_shapes"],
            "max_abs_difference": difference,
            "largest_action": float(np.abs(run(full)).max()),
        },
    )


if __name__ == "__main__":
    main()
