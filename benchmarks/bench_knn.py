"""Claim: scoring all 144 heads of pi0.5 over the paper's 2,518 frames takes seconds on two cores, and grows as N^2."""

from __future__ import annotations

import resource

import numpy as np
from measure import save, seconds

from robosteer_training.heads.knn import score_heads

LAYERS, HEADS, HEAD_DIM = 18, 8, 256


def main() -> None:
    """Run the benchmark."""
    random = np.random.default_rng(0)
    times = {}
    for frames in (1259, 2518):
        vectors = random.standard_normal((LAYERS, frames, HEADS, HEAD_DIM), dtype=np.float32)
        actions = random.standard_normal((frames, 8)).astype(np.float32)
        episodes = np.arange(frames, dtype=np.int32) * 20 // frames
        score_heads(vectors[:1, :400], actions[:400], episodes[:400], m=1)  # compiles
        times[frames] = seconds(lambda v=vectors, a=actions, e=episodes: score_heads(v, a, e, m=20))
    save(
        "knn",
        {
            "seconds": {str(n): t for n, t in times.items()},
            "ratio_for_twice_the_frames": times[2518] / times[1259],
            "peak_rss_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "input_gib": 2518 * LAYERS * HEADS * HEAD_DIM * 4 / 2**30,
        },
    )


if __name__ == "__main__":
    main()
