"""Train an adapter with a recipe on a converted dataset, or explain what a recipe trains."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Train an adapter with a recipe on a converted dataset, or explain what a recipe trains."""

    recipe: str = "steering"
    """What is trained: steering, paper-text, q-only, q+mlp, lora, lora-frozen-vision, full."""
    explain: bool = False
    """Print the parameter table of the recipe and stop; needs no weights."""
    model: Literal["pi0", "pi05", "pi0_fast"] = "pi05"
    """Full-size model that --explain counts."""
    m: int = 20
    """Number of heads that --explain counts when no --heads are given."""
    heads: Path | None = None
    """Head selection file (`robosteer heads select`)."""
    dataset: Path | None = None
    """Converted dataset (`robosteer convert`)."""
    base: Path | None = None
    """Checkpoint to adapt."""
    out: Path | None = None
    """Directory of the results."""
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
    resume: bool = False
    """Continue an unfinished run with the same options."""
    overwrite: bool = False
    """Replace results of that name."""
    json: bool = False
    """Print the result as JSON."""


def main(argv: list[str]) -> int:
    """Entry point of `robosteer finetune`."""
    arguments = tyro.cli(Annotated[Arguments, tyro.conf.arg()], args=argv, prog="robosteer finetune")
    told = _explain(arguments) if arguments.explain else _finetune(arguments)
    if arguments.json:
        import json

        print(json.dumps(told))
    elif arguments.explain:
        print(explain_text(told))
    else:
        from robosteer_training.commands.steer import summary_text

        print(summary_text(told))
    return 0


def _explain(arguments: Arguments) -> dict[str, Any]:
    from robosteer_model import config as configs
    from robosteer_training.finetune.explain import explain
    from robosteer_training.finetune.recipes import recipe_by_name
    from robosteer_training.heads.selection import HeadSelection

    heads = HeadSelection.load(arguments.heads).heads if arguments.heads else ()
    config = getattr(configs, arguments.model)()
    return explain(config, recipe_by_name(arguments.recipe), arguments.m, heads)


def _finetune(arguments: Arguments) -> dict[str, Any]:
    from robosteer_rig.errors import RobosteerError

    a = arguments
    if a.dataset is None or a.base is None or a.out is None:
        raise RobosteerError("finetune: found no --dataset, --base or --out, expected all three (or --explain)")

    from robosteer_training.finetune.settings import TrainSettings
    from robosteer_training.steer import steer
    from robosteer_training.steer_settings import SteerSettings

    settings = SteerSettings(
        base=a.base,
        out=a.out,
        dataset=a.dataset,
        recipe=a.recipe,
        select=False,
        selection=a.heads,
        training=TrainSettings(
            steps=a.steps,
            batch_size=a.batch_size,
            peak_lr=a.peak_lr,
            warmup_steps=a.warmup_steps,
            seed=a.seed,
            augment=a.augment,
            holdout=a.holdout,
            save_every=a.save_every,
        ),
    )
    return steer(settings, resume=a.resume, overwrite=a.overwrite)


def explain_text(told: dict[str, Any]) -> str:
    """The parameter table for people; M are millions of parameters, MiB are of float32."""
    lines = [
        f"{told['recipe']}: {told['summary']}",
        f"{told['model_type']}, {told['heads']} heads ({told['heads_are']})",
        "",
        f"{'module':26}{'how':24}{'trained M':>12}{'MiB':>12}{'model M':>12}",
    ]
    for row in told["table"]:
        numbers = f"{row['trainable'] / 1e6:12.4f}{row['trainable_mib']:12.3f}{row['parameters'] / 1e6:12.3f}"
        lines.append(f"{row['module']:26}{row['how']:24}{numbers}")
    totals = (
        f"{told['trainable_parameters'] / 1e6:12.4f}{told['trainable_mib']:12.3f}{told['total_parameters'] / 1e6:12.3f}"
    )
    lines += [f"{'all':50}{totals}", f"{told['trainable_parameters']:,} trainable parameters"]
    return "\n".join(lines)
