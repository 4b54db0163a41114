"""How much faster than real time one process simulates, draws two 224 x 224 views included.

    python benchmarks/bench_sim.py [--periods 90]

Each row is one scene; times are medians over control periods of 1/15 s. `physics_ms` is without the judge.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measure import save

from robosteer_rig.environment import Scene
from robosteer_rig.rig import Crop, Rig, load_rig
from robosteer_sim.environment import CellEnvironment
from robosteer_sim.tasks import PAPER_TASKS

RIG = Path(__file__).parents[1] / "src" / "robosteer_bringup" / "config" / "rigs" / "sim_panda.yaml"
SIZE = 224


def rig_with_pictures_of(size: int) -> Rig:
    """The cell's rig, its policy looking through cameras of that size."""
    rig = load_rig(RIG)
    cameras = {
        name: dataclasses.replace(camera, width=size, height=size, crop=Crop(0, 0, size), output_size=size)
        for name, camera in rig.cameras.items()
    }
    return dataclasses.replace(rig, cameras=cameras)


def measure(cell: CellEnvironment, scene: Scene, periods: int, rate_hz: float) -> dict[str, object]:
    """One row: the scripted expert acts."""
    step, draw = cell.physics.step, cell._cameras.render
    spent = {"physics": 0.0, "pictures": 0.0}

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = work(*arguments)
            spent[name] += time.perf_counter() - start
            return result

        return run

    cell.physics.step, cell._cameras.render = timed("physics", step), timed("pictures", draw)
    times, start = [], None
    for number, _ in enumerate(cell.demonstrate(scene)):
        now = time.perf_counter()
        if start is not None:
            times.append(now - start)
        start = now
        if number >= periods:
            break
    cell.physics.step, cell._cameras.render = step, draw
    median = statistics.median(times)
    return {
        "task": scene.task,
        "period_ms": round(1e3 * median, 2),
        "times_real_time": round(1 / rate_hz / median, 2),
        "physics_ms": round(1e3 * spent["physics"] / (len(times) + 1), 2),
        "pictures_ms": round(1e3 * spent["pictures"] / (len(times) + 2), 2),
        "slowest_period_ms": round(1e3 * float(np.max(times)), 2),
    }


def main() -> None:
    """All tasks of the paper."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--periods", type=int, default=90)
    arguments = parser.parse_args()
    rig = rig_with_pictures_of(SIZE)
    cell = CellEnvironment(rig)
    for task in PAPER_TASKS:
        cell.reset(Scene(task, 19, 0))  # compiled, and drawn once, before the clock starts
    rows = [measure(cell, Scene(task, 19, 0), arguments.periods, rig.action.rate_hz) for task in PAPER_TASKS]
    cell.close()
    save("sim", {"views": 2, "size": SIZE, "rows": rows})


if __name__ == "__main__":
    main()
