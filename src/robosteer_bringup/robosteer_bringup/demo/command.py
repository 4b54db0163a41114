"""Teach, steer and deploy a simulated Franka arm: the whole loop, through real ROS 2 topics."""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from robosteer_bringup.demo import stages
from robosteer_bringup.demo.process import ros_environment
from robosteer_bringup.demo.settings import FULL, QUICK
from robosteer_bringup.demo.summary import summarise
from robosteer_bringup.launcher.resolve import package_share, with_ament_prefix
from robosteer_rig.errors import RobosteerError

MARK = "logs/.robosteer-demo"
"""A file that says that a directory may be deleted for the next demo."""


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="robosteer demo", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the same stages on less: under 3 minutes")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="directory for everything it makes (default: %(default)s)"
    )
    parser.add_argument("--resume", action="store_true", help="go on where an earlier run was interrupted")
    return parser.parse_args(argv)


def make_workspace(out: Path, quick: bool, resume: bool) -> stages.Workspace:
    """Directories, environment and sizes of one run."""
    out = out.absolute()
    environment = with_ament_prefix(dict(os.environ))
    (out / MARK).parent.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()
    return stages.Workspace(
        out=out,
        base=Path(package_share("robosteer_training", environment)) / "checkpoints" / "nano",
        rig=Path(package_share("robosteer_bringup", environment)) / "config" / "rigs" / "sim_panda.yaml",
        environment=ros_environment(out / "logs" / "ros"),
        settings=QUICK if quick else FULL,
        resume=resume,
    )


def plan(work: stages.Workspace) -> list[tuple[str, Callable[[], bool], Callable[[], None]]]:
    """The stages in order: title, whether its result is there, the work."""
    settings = work.settings
    cells = settings.evaluation_cells
    return [
        (
            f"1/4 record: a scripted operator shows “{settings.task}” {settings.episodes} times",
            lambda: stages.recorded(work) >= settings.episodes,
            lambda: stages.record(work),
        ),
        (
            "2/4 steer: find the attention heads that carry the task, finetune only those",
            (work.steered / "steer.json").exists,
            lambda: stages.steer(work),
        ),
        (
            f"3/4 compare: base policy on {cells} placements",
            work.evaluation("base").exists,
            lambda: stages.evaluate(work, "base", work.base),
        ),
        (
            f"3/4 compare: steered policy on the same {cells} placements",
            work.evaluation("steered").exists,
            lambda: stages.evaluate(work, "steered", work.checkpoint),
        ),
        (
            f"4/4 deploy: the steered policy drives the cell through topics, {settings.live_cells} placements",
            work.trials.exists,
            lambda: stages.deploy(work),
        ),
    ]


def main(argv: list[str]) -> int:
    """Entry point of `robosteer demo`."""
    arguments = _arguments(argv)
    if arguments.out.exists() and not arguments.resume:
        _remove_old_run(arguments.out)
    work = make_workspace(arguments.out, arguments.quick, arguments.resume)
    started = time.monotonic()
    for title, finished, run in plan(work):
        if finished():
            print(f"\n{title}: kept from the earlier run", flush=True)
            continue
        print(f"\n{title}", flush=True)
        run()
    print()
    print(summarise(work, time.monotonic() - started), flush=True)
    return 0


def _remove_old_run(out: Path) -> None:
    """Delete what an earlier demo left; never a directory that is not a demo's."""
    if not out.is_dir() or (any(out.iterdir()) and not (out / MARK).is_file()):
        raise RobosteerError(
            f"{out}: found what no demo made, expected an empty directory or nothing; give another --out"
        )
    shutil.rmtree(out)
