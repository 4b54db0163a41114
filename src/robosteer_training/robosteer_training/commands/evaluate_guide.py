"""`robosteer evaluate guide`: the same protocol on a real robot, led by hand."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclasses.dataclass(frozen=True)
class Plan:
    """Draw placements, yaws and the blinded order of the policies, and a sheet to print at true scale."""

    out: Path
    """Directory of the plan; it gets a link P1, P2, ... to every policy, and the key, closed until the end."""
    policies: tuple[str, ...]
    """Checkpoint directories (or names); two for an A/B comparison, up to four."""
    task: str
    """Instruction."""
    rig: Path
    """Rig file of the robot."""
    cells: int = 40
    """How many of the 40 grid cells to use, spread evenly."""
    rounds: int = 1
    """Rounds over the grid, each with other yaws."""
    seed: int = 0
    """Seed of order, yaws and codes."""
    time_limit_s: float = 30.0
    """After which a trial has failed, s."""
    paper: Literal["a4", "a3", "a2"] = "a4"
    """Paper of the sheet; smaller ones take several pages."""

    def run(self) -> str:
        """Plan and draw."""
        from robosteer_rig.errors import RobosteerError
        from robosteer_rig.rig import load_rig
        from robosteer_training.evaluation.guided.plan import make_plan, save_plan
        from robosteer_training.evaluation.guided.sheet import save_sheet
        from robosteer_training.evaluation.scenes import spread_cells

        for policy in self.policies:
            if "/" in policy and not Path(policy).exists():
                raise RobosteerError(
                    f"--policies: found nothing at {policy}, expected a checkpoint directory or a name"
                )
        plan, key = make_plan(
            self.task,
            self.policies,
            spread_cells(self.cells),
            range(self.rounds),
            seed=self.seed,
            time_limit_s=self.time_limit_s,
            rig_digest=load_rig(self.rig).digest(),
        )
        save_plan(self.out, plan, key)
        pages = save_sheet(plan, self.paper, self.out / "sheet.pdf")
        return (
            f"{self.out}: {len(plan.trials)} trials, {pages} pages to print in sheet.pdf; policies "
            f"{', '.join(plan.codes)}; go on with `robosteer evaluate guide run --plan {self.out}`"
        )


@dataclasses.dataclass(frozen=True)
class Run:
    """Lead through the trials that have no label yet; one key starts the clock, one key says what happened."""

    plan: Path
    """Directory of the plan."""

    def run(self) -> str:
        """Ask and note."""
        import time

        from robosteer_training.evaluation.guided.labels import Labels, label_trials
        from robosteer_training.evaluation.guided.plan import TrialPlan

        plan = TrialPlan.load(self.plan)
        labels = Labels(self.plan, plan)
        with typed_keys() as keys:
            label_trials(plan, labels, keys, lambda text: print(text, flush=True), time.monotonic)
        return f"{labels.path}: {len(labels)} labels"


@dataclasses.dataclass(frozen=True)
class Report:
    """Open the key: a result file per policy, as `robosteer evaluate` writes them, and the paired comparison."""

    plan: Path
    """Directory of the plan."""
    early: bool = False
    """Report although trials are missing; only placements that all policies were tried on count."""

    def run(self) -> str:
        """Report."""
        from robosteer_training.commands.evaluate import result_text
        from robosteer_training.evaluation.comparison import compare, comparison_text
        from robosteer_training.evaluation.guided.labels import Labels
        from robosteer_training.evaluation.guided.plan import TrialPlan, read_key
        from robosteer_training.evaluation.guided.report import evaluations
        from robosteer_training.evaluation.overview import overview
        from robosteer_training.files import write_bytes

        plan = TrialPlan.load(self.plan)
        results = evaluations(plan, Labels(self.plan, plan), read_key(self.plan), early=self.early)
        lines = []
        for result in results.values():
            path = self.plan / f"result_{result.policy['code']}.json"
            result.save(path)
            write_bytes(path.with_suffix(".svg"), overview(result))
            lines.append(f"{result_text(result)}\n  written to {path}")
        if len(results) > 1:
            lines.append(comparison_text(compare(results)))
        return "\n".join(lines)


Command = (
    Annotated[Plan, tyro.conf.subcommand("plan")]
    | Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[Report, tyro.conf.subcommand("report")]
)


def main(argv: list[str]) -> int:
    """Entry point of `robosteer evaluate guide`."""
    command: Any = tyro.cli(Command, args=argv, prog="robosteer evaluate guide")  # pyright: ignore[reportArgumentType, reportCallIssue]
    print(command.run())
    return 0


@contextlib.contextmanager
def typed_keys() -> Iterator[Iterator[str]]:
    """Keys as they are pressed; without a terminal, the characters of the standard input.

    The terminal is switched on entry, before the first question is asked: switching throws away what was typed earlier.
    """
    import sys
    import termios
    import tty

    if not sys.stdin.isatty():
        yield (character for line in sys.stdin for character in line if character != "\n")
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield iter(lambda: sys.stdin.read(1), "")
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
