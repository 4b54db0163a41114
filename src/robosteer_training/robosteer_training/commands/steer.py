"""Adapt a policy to recorded demonstrations: heads, sparse finetuning, checkpoint, report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import OmitArgPrefixes as Flat

from robosteer_training.commands.training_options import OutputOptions, RecipeOptions, TrainingOptions

if TYPE_CHECKING:
    from robosteer_training.steer_settings import SteerSettings


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Adapt a policy to recorded demonstrations and write an ordinary checkpoint."""

    base: Path
    """Checkpoint to adapt (openpi's layout)."""
    out: Path
    """Directory of the results; it appears when everything is done."""
    bag: Path | None = None
    """One recorded episode or a directory of them (rosbag2)."""
    dataset: Path | None = None
    """A converted dataset, instead of --bag."""
    rig: Path | None = None
    """Rig file; by default the recorded one."""
    instruction: str | None = None
    """Replaces the recorded instruction."""
    m: int | None = None
    """Number of heads; by default the paper's 20 of 144 in proportion."""
    k: tuple[int, ...] = (10, 20, 30, 40)
    """Numbers of neighbours to try; the best is kept."""
    metric: Literal["cosine", "euclidean"] = "cosine"
    """Distance between head outputs."""
    noise_seed: int = 0
    """Seed of the noise under which activations are taken."""
    what: Flat[RecipeOptions] = dataclasses.field(default_factory=RecipeOptions)
    how: Flat[TrainingOptions] = dataclasses.field(default_factory=TrainingOptions)
    output: Flat[OutputOptions] = dataclasses.field(default_factory=OutputOptions)
    jobs: int = 0
    """Worker processes of the conversion; 0 takes one per CPU core."""
    skip_bad: bool = False
    """Go on when some episodes are damaged."""
    resume: bool = False
    """Continue an unfinished run with the same options."""
    overwrite: bool = False
    """Replace results of that name."""
    json: bool = False
    """Print the summary as JSON."""


def main(argv: list[str]) -> int:
    """Entry point of `robosteer steer`."""
    import tyro

    arguments = tyro.cli(Arguments, args=argv, prog="robosteer steer")
    settings = _settings(arguments)

    from robosteer_training.interrupt import finished
    from robosteer_training.steer import steer

    summary = finished(lambda: steer(settings, resume=arguments.resume, overwrite=arguments.overwrite), "steer")
    if isinstance(summary, int):
        return summary
    if arguments.json:
        import json

        print(json.dumps(summary))
    else:
        print(summary_text(summary))
    return 0


def console() -> int:
    """Executable `steer`, for `ros2 run robosteer_training steer`."""
    from robosteer_training.console import run

    return run("steer", main)


def _settings(arguments: Arguments) -> SteerSettings:
    import os

    from robosteer_training.heads.cache import CacheSettings
    from robosteer_training.heads.select import KnnSettings
    from robosteer_training.steer_settings import SteerSettings

    a = arguments
    return SteerSettings(
        base=a.base,
        out=a.out,
        bag=a.bag,
        dataset=a.dataset,
        rig=a.rig,
        instruction=a.instruction,
        cache=CacheSettings(noise_seed=a.noise_seed),
        heads=KnnSettings(ks=a.k, m=a.m, metric=a.metric, exclude_dead_heads=a.what.exclude_dead_heads),
        training=a.how.settings(),
        jobs=a.jobs or os.cpu_count() or 1,
        skip_bad=a.skip_bad,
        **a.what.steer_fields(),
        **a.output.steer_fields(),
    )


def summary_text(summary: dict[str, Any]) -> str:
    """What a person wants to know at the end."""
    data, heads, loss, recipe = (summary[name] for name in ("dataset", "heads", "loss", "recipe"))
    checkpoint = summary["checkpoint"]
    if loss["heldout_before"] is None:
        losses = f"training {loss['train_first']:.4f} -> {loss['train_last']:.4f} (no episode was held out)"
    else:
        losses = f"held out {loss['heldout_before']:.4f} -> {loss['heldout_after']:.4f}"
    millions = recipe["trainable_parameters"] / 1e6
    return "\n".join(
        (
            f"episodes    {data['episodes']} ({data['frames']} frames, {data['duration_s']:.0f} s): "
            f"{', '.join(data['instructions'])}",
            f"heads       {_heads_text(heads)}",
            f"trained     {millions:.3f} M parameters ({recipe['trainable_mib']:.2f} MiB, "
            f"{recipe['trainable_percent']:.2f} % of the model)",
            f"loss        {losses}{_error_text(summary['action_error']['heldout'])}",
            f"time        {sum(summary['seconds'].values()):.0f} s ({summary['seconds_per_step']:.3f} s per step, "
            f"{summary['data_wait_share']:.1%} waiting for data)",
            f"{checkpoint['kind']:12}{checkpoint['path']} ({checkpoint['mib']:.1f} MiB)",
            f"report      {summary['out']}/report.html",
        )
    )


def _error_text(errors: list[list[float]]) -> str:
    return f", action error {errors[0][1]:.4f} -> {errors[-1][1]:.4f} (normalised)" if errors else ""


def _heads_text(heads: dict[str, Any] | None) -> str:
    if heads is None:
        return "not used"
    chosen = ", ".join(f"({layer},{head})" for layer, head in heads["chosen"])
    return f"{heads['m']} of {heads['of']}, k = {heads['k']}: {chosen}"
