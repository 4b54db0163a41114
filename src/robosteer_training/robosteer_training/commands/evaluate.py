"""Try a policy in closed loop on a grid of placements; `compare` policies, `guide` trials on a real robot."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from robosteer_rig.rig import Rig
    from robosteer_training.evaluation.result import Evaluation


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Try a policy in closed loop on a grid of placements and report success with 95 % intervals.

    `robosteer evaluate compare` compares results; `robosteer evaluate guide` leads through the same protocol on a real
    robot.
    """

    checkpoint: Annotated[Path, tyro.conf.arg(aliases=["--policy"])]
    """Checkpoint directory (the one that holds params/)."""
    rig: Path | None = None
    """Rig file of the environment; by default the one that travels with the checkpoint."""
    task: tuple[str, ...] = ("pick up red cube",)
    """Instructions, which are also the tasks that are judged."""
    cells: int | None = None
    """How many of the 40 grid cells to use, spread evenly; by default all."""
    grid: str | None = None
    """The same as ROWSxCOLUMNS, up to 5x8."""
    cell: tuple[int, ...] = ()
    """The same as a list of cells, 0 ... 39; row 0 is nearest to the robot."""
    seeds: tuple[int, ...] = (0,)
    """Each gives another yaw, distractor and jitter in every cell; the same seed gives the same scenes."""
    variation: tuple[str, ...] = ("none",)
    """Conditions of the scene: none, or changes that the environment knows; each is tried on all placements."""
    execute_steps: int = 8
    """Actions of a chunk executed before the next inference."""
    num_steps: int = 10
    """Denoising steps per inference."""
    time_limit_s: float | None = None
    """Simulated seconds per trial; by default the task's own."""
    jobs: int = 2
    """Worker processes; their number changes no outcome."""
    executor: Literal["processes", "ray"] = "processes"
    """Where workers run: on this machine, or on a Ray cluster (extra `ray`; a file system that all machines share)."""
    environment: str = "cell"
    """Where to try it (entry-point group robosteer.environments)."""
    films: Path | None = None
    """Directory for a film (GIF) of every failure."""
    out: Path | None = None
    """Result file (JSON), with a picture of the grid (SVG) beside it; trials are kept while it runs."""
    resume: bool = False
    """Go on with the trials that an earlier run of the same policy left at --out, finished or not."""
    overwrite: bool = False
    """Replace the result at --out."""
    json: bool = False
    """Print the result as JSON."""

    def chosen_cells(self) -> list[int]:
        """Of --cells, --grid and --cell, the one that is given."""
        from robosteer_rig.errors import RobosteerError
        from robosteer_training.evaluation.scenes import GRID_CELLS, grid_cells, spread_cells

        if sum((self.cells is not None, self.grid is not None, bool(self.cell))) > 1:
            raise RobosteerError("evaluate: found several of --cells, --grid and --cell, expected one of them")
        if self.cell:
            return list(self.cell)
        if self.grid is not None:
            return grid_cells(self.grid)
        return spread_cells(GRID_CELLS if self.cells is None else self.cells)


def main(argv: list[str]) -> int:
    """Entry point of `robosteer evaluate`."""
    if argv and argv[0] == "compare":
        from robosteer_training.commands.evaluate_compare import main as compare

        return compare(argv[1:])
    if argv and argv[0] == "guide":
        from robosteer_training.commands.evaluate_guide import main as guide

        return guide(argv[1:])
    arguments = tyro.cli(Arguments, args=argv, prog="robosteer evaluate")
    result = _evaluate(arguments)
    if arguments.json:
        import json

        print(json.dumps(result.to_json()))
    else:
        print(result_text(result))
        if arguments.out is not None:
            print(f"written to {arguments.out}, grid to {arguments.out.with_suffix('.svg')}")
    return 0


def _evaluate(arguments: Arguments) -> Evaluation:
    import sys

    from robosteer_rig.errors import RobosteerError
    from robosteer_training.evaluation.evaluate import EvaluateSettings, evaluate
    from robosteer_training.evaluation.overview import overview
    from robosteer_training.evaluation.rollout import Manner
    from robosteer_training.evaluation.scenes import make_scenes
    from robosteer_training.files import write_bytes

    a = arguments
    if a.out is not None and a.out.is_dir():
        raise RobosteerError(f"--out: found the directory {a.out}, expected the name of a file, such as result.json")
    if a.out is not None and a.out.exists() and not (a.resume or a.overwrite):
        raise RobosteerError(f"--out: found a result at {a.out}, expected none; give --resume or --overwrite")
    if a.films is not None:
        a.films.mkdir(parents=True, exist_ok=True)
    scenes = make_scenes(a.task, a.chosen_cells(), a.seeds, a.variation)
    manner = Manner(a.execute_steps, a.time_limit_s)
    settings = EvaluateSettings(a.environment, manner, a.num_steps, a.jobs, a.films, a.executor)
    try:
        result = evaluate(a.checkpoint, _rig(a), scenes, settings, out=a.out, resume=a.resume)
    except KeyboardInterrupt:
        if a.out is not None:
            print(f"evaluate: every finished trial is kept beside {a.out}; go on with --resume", file=sys.stderr)
        raise
    if a.out is not None:
        write_bytes(a.out.with_suffix(".svg"), overview(result))
    return result


def _rig(arguments: Arguments) -> Rig:
    from robosteer_model.checkpoint import load_checkpoint
    from robosteer_rig.errors import RobosteerError
    from robosteer_rig.rig import load_rig, parse_rig

    if arguments.rig is not None:
        return load_rig(arguments.rig)
    text = load_checkpoint(arguments.checkpoint).rig
    if not text:
        raise RobosteerError(f"--rig: found none, and none in {arguments.checkpoint}, expected a rig file; give --rig")
    return parse_rig(text, source=f"{arguments.checkpoint}: rig")


def result_text(result: Evaluation) -> str:
    """What a person wants to know, a line per task and variation, then why trials failed and how it moved."""
    from robosteer_training.evaluation.result import summary
    from robosteer_training.evaluation.statistics import describe_rate

    lines = [f"{result.checkpoint}: {result.describe()}"]
    groups = result.by("task", "variation")
    if len(groups) > 1:
        for (task, variation), trials in groups.items():
            name = f"{task} ({variation})" if variation else task
            lines.append(f"  {name}: {describe_rate(sum(t.success for t in trials), len(trials))}")
    told = summary(result.trials)
    if told["failures"]:
        lines.append("  failed: " + ", ".join(f"{count} {kind}" for kind, count in told["failures"].items()))
    if time := told["time_to_success_s"]:
        lines.append(
            f"  time to success: median {time['median']:.1f} s ({time['fastest']:.1f} to {time['slowest']:.1f})"
        )
    if motion := told["motion"]:
        lines.append(
            f"  motion: commanded acceleration {motion['rms_acceleration']:.2f} rad/s² (root mean square), fastest "
            f"joint {motion['peak_velocity']:.2f} rad/s; {motion['clipped_steps']:.1%} of the steps clipped, "
            f"{motion['overspeed_steps']:.1%} over a joint's speed, {motion['near_limit_steps']:.1%} at a joint's end"
        )
    lines.append(f"  took {result.seconds:.0f} s")
    return "\n".join(lines)
