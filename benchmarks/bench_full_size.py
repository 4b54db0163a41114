"""Claim: full-size pi0.5 in bfloat16 loads from disk and runs one inference on a CPU within 20 GiB of memory.

Writes a checkpoint of random weights in openpi's layout (7 GB, in a temporary directory), then, in a process of its
own, loads it and samples one action chunk for two views and 60 prompt tokens.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from measure import save
from random_model import random_observation, random_params

from robosteer_model import pi0
from robosteer_model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from robosteer_model.config import stock_config
from robosteer_model.observation import Observation

CONFIG = "pi05_droid"
PROMPT_TOKENS = 60


def write_random_checkpoint(directory: Path) -> None:
    """Random bfloat16 weights of the full-size model."""
    config = stock_config(CONFIG)
    save_checkpoint(directory, Checkpoint(random_params(config), config))


def run_inference(directory: Path) -> dict[str, float]:
    """Load and infer once; times in s, memory in GiB."""
    start = time.perf_counter()
    checkpoint = load_checkpoint(directory, dtype="bfloat16")
    loaded = time.perf_counter()
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(checkpoint.params)) / 2**30
    after_loading = _peak_rss_gib()
    config, random = checkpoint.config, np.random.default_rng(0)
    inputs = random_observation(config, random, 2, PROMPT_TOKENS, PROMPT_TOKENS)
    observation = Observation.from_dict(inputs)
    noise = random.standard_normal((1, config.action_horizon, config.action_dim)).astype(np.float32)
    sample = jax.jit(functools.partial(pi0.sample_actions, config=config))
    actions = np.asarray(sample(checkpoint.params, observation=observation, noise=noise)[0])
    return {
        "load_s": loaded - start,
        "first_inference_with_compilation_s": time.perf_counter() - loaded,
        "parameters_gib": parameters,
        "peak_rss_after_loading_gib": after_loading,
        "peak_rss_gib": _peak_rss_gib(),
        "all_finite": bool(np.isfinite(actions).all()),
    }


def _peak_rss_gib() -> float:
    """Peak of this program alone; getrusage would carry the peak of the process that started it across exec."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


def main() -> None:
    """Run the benchmark; with --infer, only the measured half."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--infer", type=Path)
    arguments = parser.parse_args()
    if arguments.infer:
        print(json.dumps(run_inference(arguments.infer)))
        return
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "random"
        write_random_checkpoint(directory)
        command = [sys.executable, __file__, "--infer", str(directory)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    save("full_size", json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
