"""Full-size pi0.5 on a GPU: milliseconds from an observation on the host to its action chunk on the host.

Random bfloat16 weights, two views, 60 prompt tokens, 10 denoising steps; images, state, prompt and noise change with
every call. Each candidate runs in a process of its own.

    python benchmarks/gpu_latency.py                    # writes benchmarks/results/gpu_latency.json
    python benchmarks/gpu_latency.py --only robosteer   # without openpi, where it cannot be imported
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import openpi_reference
from measure import save
from random_model import random_observation, random_params

from robosteer_model import pi0
from robosteer_model.config import ModelConfig, stock_config
from robosteer_model.observation import Observation
from robosteer_model.policy import prompt_bucket

CONFIG = "pi05_droid"
VIEWS, PROMPT_TOKENS, NUM_STEPS, DIFFERENT = 2, 60, 10, 16
# name -> whether openpi's shapes are computed: three views and 200 prompt tokens
CANDIDATES = {"robosteer": False, "robosteer at openpi's shapes": True, "openpi": True}


def robosteer_sampler(config: ModelConfig, params: Any) -> Callable[[Any, np.ndarray], np.ndarray]:
    """(observation in openpi's keys, noise) -> actions."""
    params = jax.device_put(params)
    sample = jax.jit(functools.partial(pi0.sample_actions, config=config, num_steps=NUM_STEPS))

    def act(inputs: Any, noise: np.ndarray) -> np.ndarray:
        observation = Observation.from_dict(jax.tree.map(jnp.asarray, inputs))
        return np.asarray(sample(params, observation=observation, noise=jnp.asarray(noise))[0])

    return act


def measure(name: str, calls: int) -> dict[str, Any]:
    """Time one candidate in this process."""
    config, rng = stock_config(CONFIG), np.random.default_rng(0)
    length = config.max_token_len if CANDIDATES[name] else prompt_bucket(PROMPT_TOKENS, config.max_token_len)
    inputs = [random_observation(config, rng, VIEWS, PROMPT_TOKENS, length) for _ in range(DIFFERENT)]
    noises = rng.standard_normal((DIFFERENT, 1, config.action_horizon, config.action_dim), np.float32)
    params = random_params(config)
    act = (
        openpi_reference.sampler(config, params, num_steps=NUM_STEPS)
        if name == "openpi"
        else robosteer_sampler(config, params)
    )
    start = time.perf_counter()
    first = act(inputs[0], noises[0])
    compiled = time.perf_counter() - start
    times = []
    for i in range(calls + 10):
        start = time.perf_counter()
        actions = act(inputs[i % DIFFERENT], noises[i % DIFFERENT])
        times.append(1000 * (time.perf_counter() - start))
        if not np.isfinite(actions).all():
            raise SystemExit(f"{name}: found actions that are not finite in call {i}")
    again = act(inputs[0], noises[0])
    stats = jax.local_devices()[0].memory_stats() or {}
    return {
        "candidate": name,
        "device": jax.local_devices()[0].device_kind,
        "prompt_length": length,
        "calls": calls,
        "first_call_s": round(compiled, 1),
        **{f"p{q}_ms": round(float(np.percentile(times[10:], q)), 2) for q in (50, 95, 99)},
        "max_ms": round(max(times[10:]), 2),
        "peak_gib": round(stats.get("peak_bytes_in_use", 0) / 2**30, 2),
        "same_again": bool((first == again).all()),
        "first_actions": [round(float(x), 4) for x in first[0, 0, :8]],
    }


def main() -> None:
    """Run the benchmark; with --measure, one candidate in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--only", nargs="*", choices=list(CANDIDATES), default=list(CANDIDATES))
    parser.add_argument("--measure", choices=list(CANDIDATES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.calls)))
        return
    rows = []
    for name in arguments.only:
        command = [sys.executable, str(Path(__file__).resolve()), "--calls", str(arguments.calls), "--measure", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        failed = {"candidate": name, "failed": f"exit code {done.returncode}; see the output above"}
        rows.append(failed if done.returncode else json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    save("gpu_latency", {"candidates": rows})


if __name__ == "__main__":
    main()
