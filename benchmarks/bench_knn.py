"""Claim: scoring all 144 heads of pi0.5 over the paper's 2,518 frames takes seconds on two cores, and grows as N^2.

`--large` adds 20,000 frames of one layer, streamed from a file, and the permutation null at 2,518 frames.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import save, seconds

from robosteer_training.heads.knn import score_heads
from robosteer_training.heads.neighbours import nearest_neighbours
from robosteer_training.heads.uncertainty import null_scores, shuffled_order

LAYERS, HEADS, HEAD_DIM = 18, 8, 256
SMALL, FULL, LARGE = 1259, 2518, 20_000
PERMUTATIONS = 200


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true")
    large = parser.parse_args().large
    random = np.random.default_rng(0)
    wall, cpu = {}, {}
    for frames in (SMALL, FULL):
        vectors = random.standard_normal((LAYERS, frames, HEADS, HEAD_DIM), dtype=np.float32)
        actions, episodes = _actions(random, frames)
        score_heads(vectors[:1], actions, episodes, m=1)  # compiles
        start = time.process_time()
        wall[frames] = seconds(lambda v=vectors, a=actions, e=episodes: score_heads(v, a, e, m=20))
        cpu[frames] = time.process_time() - start
    result = {
        "seconds": {str(n): t for n, t in wall.items()},
        "cpu_seconds": {str(n): t for n, t in cpu.items()},
        "cpu_ratio_for_twice_the_frames": cpu[FULL] / cpu[SMALL],
        "peak_rss_gib": _peak(),
        "input_gib": FULL * LAYERS * HEADS * HEAD_DIM * 4 / 2**30,
    }
    save("knn", result | (_large(random) if large else {}))


def _large(random: np.random.Generator) -> dict[str, float]:
    """One layer of 20,000 frames, and the null of one head."""
    actions, episodes = _actions(random, LARGE)
    before = _peak()
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "z.npy"
        z = np.lib.format.open_memmap(file, "w+", np.float32, (1, LARGE, HEADS, HEAD_DIM))
        for start in range(0, LARGE, 1000):
            z[0, start : start + 1000] = random.standard_normal((1000, HEADS, HEAD_DIM), dtype=np.float32)
        layer = seconds(lambda: score_heads(np.load(file, mmap_mode="r"), actions, episodes, m=1))
    actions, episodes = _actions(random, FULL)
    vectors = random.standard_normal((1, FULL, HEAD_DIM), dtype=np.float32)
    nearest = nearest_neighbours(vectors, episodes, (20,), "cosine")[0]
    orders = [shuffled_order(episodes, random) for _ in range(PERMUTATIONS)]
    null = seconds(lambda: null_scores(actions.astype(np.float64), nearest, orders))
    return {
        "seconds_20000_frames_144_heads_from_one_layer": layer * LAYERS,
        "peak_rss_gib_20000_frames": max(_peak(), before),
        "seconds_null_200_permutations_144_heads_from_one_head": null * LAYERS * HEADS,
    }


def _actions(random: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray]:
    return random.standard_normal((frames, 8)).astype(np.float32), np.arange(frames, dtype=np.int32) * 20 // frames


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
