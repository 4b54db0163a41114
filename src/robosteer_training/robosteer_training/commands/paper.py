"""Repeat a table or figure of the Robotic Steering paper in the simulated cell, ours beside the paper's numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from robosteer_training.paper.lab import LabSettings

Name = Literal[
    "table1",
    "table2",
    "table3",
    "table4",
    "table5",
    "table6",
    "table7",
    "fig3",
    "fig4",
    "fig5",
    "fig6",
    "fig7",
    "fig8",
]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Repeat tables or figures of the Robotic Steering paper; everything made on the way is kept and found again.

    Table 7 needs shapes only; tables 4 and 6 and figures 4, 6, 7 and 8 need demonstrations and one pass over them; the
    others train and try policies for hours.
    """

    what: Annotated[tuple[Name, ...], tyro.conf.Positional]
    """Which."""
    base: Path
    """Checkpoint that is adapted."""
    rig: Path
    """Rig file of the environment."""
    work: Path = Path("runs/paper")
    """Where datasets, activations, policies and trials are kept; the same command goes on there."""
    out: Path = Path("docs/results")
    """Directory of the results (Markdown, JSON, SVG)."""
    tasks: tuple[str, ...] = ()
    """Instructions instead of the paper's five; experiments on one task take the first."""
    every_task: bool = False
    """Table 3 and figures 3 and 5: try every task instead of the first alone."""
    lines: tuple[str, ...] = ()
    """Only the rows of success tables whose names match, such as "steering*" (the row of comparison always)."""
    unseen: str | None = None
    """Table 2: the instruction that is never taught."""
    variations: tuple[str, ...] = ("lighting", "form", "distractors")
    """Table 2: changes of the conditions."""
    demos: int = 20
    """Demonstrations per task."""
    cells: int = 40
    """Grid cells per evaluation."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Trials per cell, one for each."""
    trainings: int = 1
    """Policies trained for every cell of a success table, with seeds of their own."""
    steps: int = 400
    """Finetuning steps."""
    batch_size: int = 32
    """Frames per step."""
    flow_draws: int = 4
    """(noise, time) draws per frame and step."""
    peak_lr: float = 3e-3
    """Learning rate after warm-up of sparse recipes, which adapt heads one by one; the paper's 2.5e-5 is for a model a
    thousand times larger than nano."""
    wide_peak_lr: float = 1e-3
    """The same for LoRA of every layer and for whole parameters."""
    execute_steps: int = 8
    """Actions of a chunk executed before the next inference."""
    time_limit_s: float | None = None
    """Simulated seconds per trial; by default the task's own."""
    exclude_dead_heads: bool = False
    """Leave out the last layer's heads, which receive no gradient."""
    environment: str = "cell"
    """Where (entry-point group robosteer.environments)."""
    jobs: int = 2
    """Worker processes."""
    quick: bool = False
    """See that it works: 2 demonstrations, 2 cells, 1 seed, 4 steps, trials of 0.6 s. The numbers mean nothing."""

    def settings(self) -> LabSettings:
        """Sizes."""
        from robosteer_training.finetune.settings import TrainSettings
        from robosteer_training.paper.lab import LabSettings
        from robosteer_training.paper.numbers import TASKS, UNSEEN

        # No episode is held out: "20 demonstrations" means 20 to learn from.
        training = TrainSettings(
            steps=self.steps,
            batch_size=self.batch_size,
            flow_draws=self.flow_draws,
            peak_lr=self.peak_lr,
            holdout=0.0,
        )
        settings = LabSettings(
            self.base,
            self.rig,
            self.work,
            tasks=self.tasks or TASKS,
            every_task=self.every_task,
            lines=self.lines,
            unseen=self.unseen or UNSEEN,
            variations=self.variations,
            demos=self.demos,
            cells=self.cells,
            seeds=self.seeds,
            training=training,
            trainings=self.trainings,
            wide_peak_lr=self.wide_peak_lr,
            execute_steps=self.execute_steps,
            time_limit_s=self.time_limit_s,
            exclude_dead_heads=self.exclude_dead_heads,
            environment=self.environment,
            jobs=self.jobs,
        )
        return _shortened(settings) if self.quick else settings


def _shortened(settings: LabSettings) -> LabSettings:
    training = dataclasses.replace(
        settings.training, steps=4, batch_size=4, eval_frames=4, eval_draws=1, action_frames=0
    )
    return dataclasses.replace(
        settings,
        demos=2,
        cells=2,
        seeds=(0,),
        training=training,
        num_steps=2,
        time_limit_s=0.6,
        run_steps=2,
        run_frames=4,
    )


def main(argv: list[str]) -> int:
    """Entry point of `robosteer paper`."""
    arguments = tyro.cli(Arguments, args=argv, prog="robosteer paper")
    import shlex
    import sys

    from robosteer_rig.environment import Scene, check_scenes
    from robosteer_rig.errors import RobosteerError
    from robosteer_training.paper.lab import Lab
    from robosteer_training.paper.run import EXPERIMENTS, run

    if len(set(arguments.what)) != len(arguments.what) or not arguments.what:
        raise RobosteerError("paper: found no name, or one twice, expected tables or figures")
    if arguments.trainings < 1:
        raise RobosteerError(f"--trainings: found {arguments.trainings}, expected at least 1")
    settings = arguments.settings()
    for name in arguments.what:
        if len(settings.tasks) < (needed := EXPERIMENTS[name].tasks):
            raise RobosteerError(f"--tasks: found {len(settings.tasks)}, expected at least {needed} for {name}")
    tasks, changes = (*settings.tasks, settings.unseen), ("", *settings.variations)
    check_scenes(settings.environment, [Scene(task, 0, 0, change) for task in tasks for change in changes])
    lab = Lab(settings)
    command = shlex.join(["robosteer", "paper", *argv])
    for name in arguments.what:
        try:
            result = run(name, lab, arguments.out, command)
        except KeyboardInterrupt:
            print(f"paper: what {name} has made is kept in {arguments.work}; the same command goes on", file=sys.stderr)
            raise
        print(f"{arguments.out / name}.md: {len(result.cells)} cells")
        for finding in result.findings:
            print(f"  {finding}")
    return 0
