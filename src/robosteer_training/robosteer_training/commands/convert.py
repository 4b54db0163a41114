"""`robosteer convert`: recordings in, an aligned dataset out."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from robosteer_training.convert import Summary
    from robosteer_training.convert_episode import ConvertSettings
    from robosteer_training.dataset import Dataset


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Arguments of `robosteer convert`."""

    bag: Path
    """One episode or a directory of episodes (rosbag2, MCAP or SQLite)."""
    out: Path
    """Directory of the dataset; episodes that are there already are not converted again."""
    rig: Path | None = None
    """Rig file; by default the one recorded in the episodes."""
    rate_hz: float | None = None
    """Frames per second; by default the rig's action rate (15 Hz). The paper records at 6 Hz."""
    actions: Literal["commanded", "measured", "target", "controller"] = "commanded"
    """Where actions come from: interval means of the commanded velocities; displacement of the measured joints; way
    from the measured joints to the commanded position; DROID's proportional law re-run on the commanded position."""
    action_unit: Literal["rad_s", "per_step"] = "rad_s"
    """rad_s: u = 1 is the rig's unit (3 rad/s) at any rate. per_step: u = 1 is 0.2 rad per step at any rate."""
    keyframes: Literal["all", "stride", "roboprompt", "union"] = "all"
    """Frames to score and train on: all; every n-th; gripper changes, stops and the last (RoboPrompt); both."""
    stride: int = 3
    """The n of stride and union, frames."""
    skip_idle: bool = False
    """Neither score nor train on frames in which nothing was commanded; they stay in the chunks of others."""
    cameras: tuple[str, ...] | None = None
    """Cameras to store; by default those that the policy looks through."""
    instruction: str | None = None
    """Replaces the recorded instruction; needed for plain bags without episode.json."""
    outcomes: tuple[str, ...] = ("success",)
    """Labels to take (success, failure, recovered, ...); episodes without a label are always taken."""
    trim_idle: bool = True
    """Drop the frames before the first and after the last command."""
    skip_bad: bool = False
    """Make the dataset even when some episodes are damaged."""
    jobs: int = 0
    """Worker processes; 0 takes one per CPU core."""
    json: bool = False
    """Print the summary as JSON."""


def main(argv: list[str]) -> int:
    """Entry point of `robosteer convert`."""
    import tyro
    from rich.console import Console

    from robosteer_rig.rig import load_rig
    from robosteer_training.convert import Summary, convert_bags
    from robosteer_training.keyframes import Selection

    arguments = tyro.cli(Annotated[Arguments, tyro.conf.arg()], args=argv, prog="robosteer convert")
    _check(arguments)
    rig = None if arguments.rig is None else load_rig(arguments.rig)
    summary = Summary()
    console = Console(stderr=True)
    progress = _progress(console)
    try:
        dataset = convert_bags(
            arguments.bag,
            arguments.out,
            rig,
            settings=_settings(arguments),
            selection=Selection(arguments.keyframes, arguments.stride, arguments.skip_idle),
            outcomes=arguments.outcomes,
            jobs=arguments.jobs or os.cpu_count() or 1,
            progress=progress,
            skip_bad=arguments.skip_bad,
            summary=summary,
        )
    finally:
        if progress.live.is_started:
            progress.stop()
        for line in summary.failures:
            console.print(f"damaged: {line}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    _report(arguments, dataset, summary)
    return 0


def _settings(arguments: Arguments) -> ConvertSettings:
    from robosteer_training.convert_episode import ConvertSettings

    return ConvertSettings(
        rate_hz=arguments.rate_hz,
        actions=arguments.actions,
        action_unit=arguments.action_unit,
        cameras=arguments.cameras,
        trim_idle=arguments.trim_idle,
        instruction=arguments.instruction,
    )


def _check(arguments: Arguments) -> None:
    from robosteer_rig.errors import RobosteerError

    if arguments.rate_hz is not None and not 0 < arguments.rate_hz <= 1000:
        raise RobosteerError(f"--rate-hz: found {arguments.rate_hz:g}, expected a number in (0, 1000]")
    if arguments.jobs < 0:
        raise RobosteerError(f"--jobs: found {arguments.jobs}, expected 0 or more")


def _progress(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def _report(arguments: Arguments, dataset: Dataset, summary: Summary) -> None:
    import json

    if arguments.json:
        content = {
            "dataset": str(dataset.path),
            "episodes": len(dataset.episodes),
            "frames": len(dataset),
            "usable_frames": int(dataset.usable.sum()),
            "stale_frames": int(dataset.stale.sum()),
            "rate_hz": dataset.rate_hz,
            "unit_rad_per_s": dataset.rig.action.unit_rad_per_s,
            "replay": {episode.source: episode.replay for episode in dataset.episodes},
            **dataclasses.asdict(summary),
        }
        print(json.dumps(content))
        return
    worst = max(episode.replay.get("open_loop_max_m", 0.0) for episode in dataset.episodes)
    print(
        f"{dataset.path}: {len(dataset.episodes)} episodes, {len(dataset)} frames at {dataset.rate_hz:g} Hz "
        f"({dataset.duration_s:.0f} s), cameras {', '.join(dataset.images)}; {summary.converted} converted, "
        f"{summary.reused} reused, {summary.skipped} of other outcome, {len(summary.failures)} damaged; "
        f"replayed actions end up at most {1000 * worst:.1f} mm from the recording"
    )
