"""Train an adapter with a recipe on a converted dataset, or explain what a recipe trains."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import OmitArgPrefixes as Flat

from robosteer_training.commands.training_options import OutputOptions, RecipeOptions, TrainingOptions

if TYPE_CHECKING:
    from robosteer_training.steer_settings import SteerSettings


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Train an adapter with a recipe on a converted dataset, or explain what a recipe trains."""

    explain: bool = False
    """Print the parameter table of the recipe and stop; needs no weights."""
    model: Literal["pi0", "pi05", "pi0_fast"] = "pi05"
    """Full-size model that --explain counts."""
    m: int = 20
    """Number of heads that --explain counts when no --heads are given."""
    heads: tuple[Path, ...] = ()
    """Head selection files (`robosteer heads select`); of several, all heads are adapted together."""
    disjoint: bool = False
    """Several --heads, one per task of the data: no two tasks share a head, each head learns from its task alone."""
    dataset: Path | None = None
    """Converted dataset (`robosteer convert`)."""
    base: Path | None = None
    """Checkpoint to adapt."""
    out: Path | None = None
    """Directory of the results."""
    what: Flat[RecipeOptions] = dataclasses.field(default_factory=RecipeOptions)
    how: Flat[TrainingOptions] = dataclasses.field(default_factory=TrainingOptions)
    output: Flat[OutputOptions] = dataclasses.field(default_factory=OutputOptions)
    coordinator: str | None = None
    """host:port of process 0, when several processes train together (each is started with the same options)."""
    processes: int = 1
    """Number of processes."""
    process_id: int = 0
    """Which of them this is, from 0; number 0 writes the results."""
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
    if isinstance(told, int):
        return told
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
    from robosteer_training.finetune.multitask import joint_heads
    from robosteer_training.finetune.recipes import customised, recipe_by_name
    from robosteer_training.heads.selection import HeadSelection, dead_heads

    what, config = arguments.what, getattr(configs, arguments.model)()
    recipe = customised(recipe_by_name(what.recipe), rank=what.rank, alpha=what.alpha, streams=what.streams)
    heads = joint_heads([HeadSelection.load(path) for path in arguments.heads])
    dead = dead_heads(config) if what.exclude_dead_heads else []
    return explain(config, recipe, arguments.m, [head for head in heads if head not in dead])


def _finetune(arguments: Arguments) -> dict[str, Any] | int:
    from robosteer_rig.errors import RobosteerError

    a = arguments
    if a.dataset is None or a.base is None or a.out is None:
        raise RobosteerError("finetune: found no --dataset, --base or --out, expected all three (or --explain)")
    if (a.coordinator is None) != (a.processes == 1):
        raise RobosteerError("finetune: found --coordinator or --processes alone, expected both for several processes")

    from robosteer_training.interrupt import finished
    from robosteer_training.steer import steer
    from robosteer_training.steer_settings import SteerSettings

    settings = SteerSettings(
        base=a.base,
        out=a.out,
        dataset=a.dataset,
        select=False,
        selections=a.heads,
        disjoint=a.disjoint,
        exclude_dead=a.what.exclude_dead_heads,
        training=a.how.settings(),
        **a.what.steer_fields(),
        **a.output.steer_fields(),
    )
    if a.coordinator is None:
        return finished(lambda: steer(settings, resume=a.resume, overwrite=a.overwrite), "finetune")
    return _among_processes(a, settings)


def _among_processes(a: Arguments, settings: SteerSettings) -> dict[str, Any] | int:
    """One process's part; process 0 gives the summary, the others their exit code.

    Raises:
        RobosteerError: also when another process is lost.
    """
    import jax

    from robosteer_rig.errors import RobosteerError
    from robosteer_training.finetune.processes import abandon_processes, join_processes, leave_processes
    from robosteer_training.interrupt import finished
    from robosteer_training.steer import follow, steer

    join_processes(a.coordinator or "", a.processes, a.process_id)
    try:
        if a.process_id > 0:
            told = finished(lambda: follow(settings), "finetune")
        else:
            told = finished(lambda: steer(settings, resume=a.resume, overwrite=a.overwrite), "finetune")
        if isinstance(told, int):  # A signal: they stop together, and part together.
            leave_processes()
        return told or 0
    except jax.errors.JaxRuntimeError as error:
        abandon_processes(1)
        reason = str(error).splitlines()[0]
        raise RobosteerError(
            f"processes: number {a.process_id} cannot go on ({reason}), expected {a.processes} that reach each other; "
            "see what the others say, then go on from the last saved step with --resume"
        ) from error
    except BaseException as error:
        abandon_processes(130 if isinstance(error, KeyboardInterrupt) else 1)
        raise


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
