"""Success of the scripted experts over the 40 cells of every task, without pictures, and their time to success.

python benchmarks/bench_experts.py [--seeds 0 1] [--variations none form distractors]
"""

from __future__ import annotations

import argparse
import collections
import statistics

from measure import save

from robosteer_rig.environment import Scene
from robosteer_sim.layout import GRID_CELLS
from robosteer_sim.physics import CellPhysics
from robosteer_sim.rehearsal import rehearse
from robosteer_sim.tasks import TASKS


def measure(physics: CellPhysics, task: str, seeds: list[int], variation: str) -> dict[str, object]:
    """One row: every cell once per seed."""
    scenes = [Scene(task, cell, seed * 10_007 + cell, variation) for seed in seeds for cell in range(GRID_CELLS)]
    found = [rehearse(physics, scene) for scene in scenes]
    times = [r.success_s for r in found if r.success_s is not None]
    return {
        "task": task,
        "variation": variation or "none",
        "successes": sum(r.judge.success for r in found),
        "trials": len(found),
        "first_attempts": sum(r.judge.success and r.expert.attempts == 1 for r in found),
        "median_time_to_success_s": round(statistics.median(times), 2) if times else None,
        "failures": dict(collections.Counter(str(r.judge.failure) for r in found if not r.judge.success)),
    }


def main() -> None:
    """All tasks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variations", nargs="+", default=["none"])
    arguments = parser.parse_args()
    physics, rows = CellPhysics(), []
    for variation in arguments.variations:
        for task in TASKS:
            rows.append(measure(physics, task, arguments.seeds, "" if variation == "none" else variation))
            print(rows[-1], flush=True)
        save("experts", {"rows": rows})


if __name__ == "__main__":
    main()
