"""Adapt a policy to recorded demonstrations: heads, sparse finetuning, checkpoint, report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from robosteer_training.steer_settings import SteerSettings

QUICK_STEPS = 100


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
    exclude_dead_heads: bool = False
    """Leave out the last layer's heads, which receive no gradient in pi0 and pi0.5."""
    noise_seed: int = 0
    """Seed of the noise under which activations are taken."""
    recipe: str = "steering"
    """What is trained: steering, paper-text, q-only, q+mlp, lora, lora-frozen-vision, full."""
    steps: int = 5000
    """Optimiser steps."""
    batch_size: int = 32
    """Frames per step."""
    peak_lr: float = 2.5e-5
    """Learning rate after warm-up."""
    warmup_steps: int = 200
    """Steps of linear warm-up (at most a tenth of all steps)."""
    seed: int = 0
    """Seed of initial factors, batches, noise and times."""
    augment: Literal["none", "light", "openpi"] = "none"
    """Image augmentation; with any, the vision encoder runs in every step."""
    holdout: float = 0.1
    """Share of episodes kept for the held-out loss."""
    save_every: int = 250
    """Steps between saved training states."""
    eval_every: int = 250
    """Steps between held-out losses; 0 means only before and after."""
    jobs: int = 0
    """Worker processes of the conversion; 0 takes one per CPU core."""
    skip_bad: bool = False
    """Go on when some episodes are damaged."""
    quick: bool = False
    """At most 100 steps: to see that everything works."""
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

    from robosteer_training.steer import steer

    summary = steer(settings, resume=arguments.resume, overwrite=arguments.overwrite)
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

    from robosteer_training.finetune.settings import TrainSettings
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
        recipe=a.recipe,
        cache=CacheSettings(noise_seed=a.noise_seed),
        heads=KnnSettings(ks=a.k, m=a.m, metric=a.metric, exclude_dead_heads=a.exclude_dead_heads),
        training=TrainSettings(
            steps=min(a.steps, QUICK_STEPS) if a.quick else a.steps,
            batch_size=a.batch_size,
            peak_lr=a.peak_lr,
            warmup_steps=a.warmup_steps,
            seed=a.seed,
            augment=a.augment,
            holdout=a.holdout,
            save_every=a.save_every,
            eval_every=a.eval_every,
        ),
        jobs=a.jobs or os.cpu_count() or 1,
        skip_bad=a.skip_bad,
    )


def summary_text(summary: dict[str, Any]) -> str:
    """What a person wants to know at the end."""
    data, heads, loss, recipe = (summary[name] for name in ("dataset", "heads", "loss", "recipe"))
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
            f"loss        {losses}",
            f"time        {sum(summary['seconds'].values()):.0f} s ({summary['seconds_per_step']:.3f} s per step)",
            f"checkpoint  {summary['checkpoint']['path']}",
            f"report      {summary['out']}/report.html",
        )
    )


def _heads_text(heads: dict[str, Any] | None) -> str:
    if heads is None:
        return "not used"
    chosen = ", ".join(f"({layer},{head})" for layer, head in heads["chosen"])
    return f"{heads['m']} of {heads['of']}, k = {heads['k']}: {chosen}"
