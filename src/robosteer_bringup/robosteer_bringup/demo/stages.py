"""The demo's stages, each one command line of a user's, with the files it reads and writes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from robosteer_bringup.demo.process import robosteer_command, run_stage
from robosteer_bringup.demo.settings import DemoSettings
from robosteer_rig.errors import RobosteerError

# A busy machine may need a while to finish a picture and say goodbye.
STOP_PATIENCE_S = 15
# Seeds of recorded scenes count from 0; the trials through topics take scenes that nobody has shown.
UNSEEN_SEED = 500_000


@dataclasses.dataclass(frozen=True)
class Workspace:
    """Where the demo works.

    Attributes:
        out: directory of everything that the demo writes.
        base: checkpoint of the base policy.
        rig: rig file of the simulated cell.
        environment: environment variables of every stage.
        settings: sizes.
        resume: stages go on where they were interrupted.
    """

    out: Path
    base: Path
    rig: Path
    environment: dict[str, str]
    settings: DemoSettings
    resume: bool = False

    @property
    def demos(self) -> Path:
        """Recorded episodes."""
        return self.out / "demos"

    @property
    def steered(self) -> Path:
        """Result of `steer`."""
        return self.out / "steered"

    @property
    def checkpoint(self) -> Path:
        """The steered checkpoint."""
        return self.steered / "checkpoint"

    def evaluation(self, name: str) -> Path:
        """Result of an evaluation."""
        return self.out / f"evaluation_{name}.json"

    @property
    def trials(self) -> Path:
        """Result of the live trials."""
        return self.out / "deploy" / "trials.json"

    def log(self, stage: str) -> Path:
        """Log of a stage."""
        return self.out / "logs" / f"{stage}.log"


def _lines_of(*names: str) -> Callable[[str], str | None]:
    """Show what these processes of a launch print, without the launcher's prefix; hide the rest (it is in the log)."""

    def show(line: str) -> str | None:
        for name in names:
            if line.startswith(f"[{name}-"):
                return "  " + line.split("] ", 1)[-1]
        return None

    return show


def recorded(work: Workspace) -> int:
    """Episodes that are there; discarded ones leave gaps in the numbering."""
    return len(list(work.demos.glob("[0-9]*/episode.json")))


def record(work: Workspace) -> None:
    """A scripted operator teaches through topics; every demonstration becomes a bag."""
    settings = work.settings
    missing = settings.episodes - recorded(work)
    command = robosteer_command(
        "launch",
        "robosteer_bringup",
        "record.launch.py",
        "sim:=true",
        "operator:=scripted",
        f"rig:={work.rig}",
        f"out:={work.demos}",
        f"task:={settings.task}",
        f"episodes:={missing}",
        f"first_seed:={recorded(work)}",
        f"sigterm_timeout:={STOP_PATIENCE_S}",
    )
    run_stage(command, work.log("record"), work.environment, show=_lines_of("scripted_operator"))


def steer(work: Workspace) -> None:
    """Bags to steered checkpoint and report."""
    settings = work.settings
    command = robosteer_command(
        "steer",
        *("--bag", str(work.demos)),
        *("--base", str(work.base)),
        *("--rig", str(work.rig)),
        *("--out", str(work.steered)),
        *("--steps", str(settings.steps)),
        *("--batch-size", str(settings.batch_size)),
        *("--peak-lr", str(settings.peak_lr)),
        *("--flow-draws", str(settings.flow_draws)),
        "--exclude-dead-heads",
        *(["--resume"] if work.resume else []),
    )
    run_stage(command, work.log("steer"), work.environment)


def evaluate(work: Workspace, name: str, checkpoint: Path) -> None:
    """One policy on the grid, in process: every policy sees the same scenes and the same flow noise."""
    settings = work.settings
    command = robosteer_command(
        "evaluate",
        *("--checkpoint", str(checkpoint)),
        *("--rig", str(work.rig)),
        *("--task", settings.task),
        *("--cells", str(settings.evaluation_cells)),
        *("--execute-steps", str(settings.execute_steps)),
        *("--time-limit-s", str(settings.time_limit_s)),
        *("--out", str(work.evaluation(name))),
        "--resume",
    )
    run_stage(command, work.log(f"evaluate_{name}"), work.environment)


def deploy(work: Workspace) -> None:
    """The steered policy drives the cell through topics, guard and all."""
    settings = work.settings
    cells = [(2 * i + 1) * 40 // (2 * settings.live_cells) for i in range(settings.live_cells)]
    command = robosteer_command(
        "launch",
        "robosteer_bringup",
        "deploy.launch.py",
        "sim:=true",
        f"rig:={work.rig}",
        f"checkpoint:={work.checkpoint}",
        f"instruction:={settings.task}",
        f"execute_steps:={settings.execute_steps}",
        # Simulator, renderer and model share the processors, and nobody stands beside the arm.
        "stall_s:=5.0",
        "trials:=true",
        f"seed:={UNSEEN_SEED}",
        f"trial_cells:={cells}",
        f"trial_time_limit_s:={settings.time_limit_s}",
        f"trial_out:={work.trials}",
        f"sigterm_timeout:={STOP_PATIENCE_S}",
    )
    run_stage(command, work.log("deploy"), work.environment, show=_lines_of("trial_runner"))


def read_result(path: Path) -> dict[str, Any]:
    """A stage's JSON result.

    Raises:
        RobosteerError: when the stage left none.
    """
    if not path.is_file():
        raise RobosteerError(f"{path}: found no such file, expected the result of a finished stage")
    return json.loads(path.read_text())
