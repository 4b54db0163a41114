"""Try a checkpoint in closed loop on a grid of placements and report success with confidence intervals."""

from __future__ import annotations

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Arguments of `robosteer evaluate`."""

    checkpoint: Path
    """Checkpoint directory (the one that holds params/)."""
    rig: Path
    """Rig file of the environment."""
    task: str = "pick up red cube"
    """Instruction, which is also the task that is judged."""
    cells: int = 40
    """How many of the 40 grid cells to use, spread evenly."""
    seed: int = 0
    """Seed of yaw, distractor and jitter; the same seed gives the same scenes."""
    execute_steps: int = 5
    """Actions of a chunk executed before the next inference."""
    time_limit_s: float = 10.0
    """Simulated seconds per trial."""
    jobs: int = 2
    """Worker processes."""
    environment: str = "cell"
    """Where to try it (entry-point group robosteer.environments)."""
    compare: Path | None = None
    """A second checkpoint, tried on the same scenes; the difference is tested with McNemar's exact test."""
    out: Path | None = None
    """Write the result as JSON to this file."""


def spread_cells(count: int, total: int = 40) -> list[int]:
    """`count` different cells of `total`, spread evenly."""
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def main(argv: list[str]) -> int:
    """Entry point of `robosteer evaluate`."""
    import tyro

    from robosteer_rig.errors import RobosteerError
    from robosteer_training.evaluation.evaluate import evaluate, grid_scenes, save_evaluation
    from robosteer_training.evaluation.statistics import mcnemar_exact

    arguments = tyro.cli(Arguments, args=argv, prog="robosteer evaluate")
    if not 1 <= arguments.cells <= 40:
        raise RobosteerError(f"--cells: found {arguments.cells}, expected 1 to 40")
    scenes = grid_scenes(arguments.task, spread_cells(arguments.cells), arguments.seed)
    results = [
        evaluate(
            checkpoint,
            arguments.rig,
            scenes,
            environment=arguments.environment,
            execute_steps=arguments.execute_steps,
            time_limit_s=arguments.time_limit_s,
            jobs=arguments.jobs,
        )
        for checkpoint in (arguments.checkpoint, arguments.compare)
        if checkpoint is not None
    ]
    for result in results:
        print(f"{result.checkpoint}: {result.describe()}")
    if len(results) == 2:
        p = mcnemar_exact(*[[t.success for t in r.trials] for r in results])
        print(f"difference on the same scenes: McNemar exact p = {p:.3g}")
    if arguments.out is not None:
        save_evaluation(results[0], arguments.out)
        print(f"written to {arguments.out}")
    return 0
