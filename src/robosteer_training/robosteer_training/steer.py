"""The whole chain: recordings to dataset to heads to sparse finetuning to checkpoint and report.

Everything is written below `<out>.partial`, which becomes `<out>` when all of it is there. Each stage says what it
reuses; after Ctrl-C or a crash `resume` continues at the frame, episode or training state that was reached.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from robosteer_model.checkpoint import load_checkpoint
from robosteer_model.digest import params_digest
from robosteer_rig.errors import RobosteerError
from robosteer_training.action_tokens import load_action_tokens
from robosteer_training.compatibility import check_convention, check_statistics
from robosteer_training.files import remove, write_json
from robosteer_training.finetune.explain import explain
from robosteer_training.finetune.multitask import disjoint_heads, in_task_order, joint_heads
from robosteer_training.finetune.processes import leave_processes, start_together
from robosteer_training.finetune.recipes import Recipe
from robosteer_training.finetune.spec import AdapterSpec
from robosteer_training.finetune.tracking import check_tracker
from robosteer_training.frames import prepare_frames
from robosteer_training.heads.cache import ActivationCache
from robosteer_training.heads.selection import HeadSelection, dead_heads, dead_heads_warning
from robosteer_training.pipeline import Pipeline, convert
from robosteer_training.report.html import write_report
from robosteer_training.report.summary import summarise
from robosteer_training.stages import Stages
from robosteer_training.steer_settings import SteerSettings, first_change

SETTINGS_FILE = "settings.json"
SECONDS_FILE = "seconds.json"
REPORT_FILE = "report.html"
SUMMARY_FILE = "steer.json"


def steer(
    settings: SteerSettings, *, resume: bool = False, overwrite: bool = False, console: Console | None = None
) -> dict[str, Any]:
    """Run all stages.

    Args:
        settings: what and how.
        resume: continue an unfinished run of the same settings.
        overwrite: replace finished or unfinished results of that name.
        console: for progress and lines.

    Returns:
        The summary, as in `steer.json`.

    Raises:
        RobosteerError: anything that the user can correct; the work done so far stays in `<out>.partial`.
        KeyboardInterrupt: Ctrl-C, likewise.
    """
    console = console or Console(stderr=True)
    try:
        return _steer(settings, resume=resume, overwrite=overwrite, console=console)
    except OSError as error:
        where = error.filename or settings.out
        raise RobosteerError(
            f"steer: {where}: found {error.strerror or error}, expected a readable and writable place with free space; "
            "mend it and go on with --resume"
        ) from error


def _steer(settings: SteerSettings, *, resume: bool, overwrite: bool, console: Console) -> dict[str, Any]:
    recipe = settings.chosen_recipe()
    try:
        check_tracker(settings.log)
        work = _open_work_directory(settings, resume=resume, overwrite=overwrite)
    except (RobosteerError, OSError):
        start_together(ready=False)
        raise
    start_together(ready=True)
    selecting = not settings.selections and settings.select and recipe.uses_heads
    stages = Stages(console, work / SECONDS_FILE, count=6 if selecting else 4)
    run = open_pipeline(settings, work, stages)
    cache = run.cache() if selecting else None
    spec, selection = choose_heads(run, recipe, cache)
    # Training and export place what they need themselves.
    run = dataclasses.replace(run, base=dataclasses.replace(run.base, params=jax.device_get(dict(run.base.params))))
    result = run.finetune(spec)
    exported = run.export(spec, selection, result)
    with stages.run("report") as stage:
        summary = summarise(
            out=settings.out,
            base=(settings.base, run.base_digest, run.base.config),
            dataset=run.dataset,
            cache=cache,
            selection=selection,
            recipe=explain(run.base.config, recipe, len(spec.heads), spec.heads),
            training=(settings.training, result),
            exported=exported,
            seconds=stages.seconds,
            reused=stages.reused,
        )
        write_report(work / REPORT_FILE, summary, selection, result.history, run.dataset)
        write_json(work / SUMMARY_FILE, summary)
        stage.outcome = str(settings.out / REPORT_FILE)
    for cache in work.glob("vision*"):
        remove(cache)  # a GiB per thousand images at full size, and made again from base and data
    _publish(work, settings.out)
    leave_processes()
    return summary


def follow(settings: SteerSettings) -> None:
    """What the other processes of a distributed run do: train along with process 0, which runs `steer`."""
    start_together(ready=True)
    work = settings.out.with_name(settings.out.name + ".partial")
    stages = Stages(Console(quiet=True), work / f"process_{jax.process_index()}" / SECONDS_FILE, count=2)
    run = open_pipeline(settings, work, stages)
    spec, _ = choose_heads(run, settings.chosen_recipe(), None)
    run.finetune(spec)
    leave_processes()


def open_pipeline(settings: SteerSettings, work: Path, stages: Stages) -> Pipeline:
    """Load base and data, and see that they belong together."""
    base = load_checkpoint(settings.base)
    dataset = convert(settings, work, stages)
    check_statistics(dataset, base)
    for warning in check_convention(dataset, base):
        _warn(stages.console, warning)
    frames = prepare_frames(dataset, base, load_action_tokens(settings.action_tokens))
    check_statistics(dataset, base, frames)
    return Pipeline(settings, work, stages, base, params_digest(base.params), dataset, frames)


def choose_heads(
    run: Pipeline, recipe: Recipe, cache: ActivationCache | None
) -> tuple[AdapterSpec, HeadSelection | None]:
    """What is trained; with several selections, the first one is that of the report."""
    settings, config = run.settings, run.base.config
    selections = [run.select(cache)] if cache is not None else [HeadSelection.load(p) for p in settings.selections]
    for selection in selections:
        selection.check_model(config, run.base_digest)
    dead = dead_heads(config) if settings.exclude_dead else []
    owners: list[int] = []
    if settings.disjoint:
        selections = in_task_order(selections, run.frames.tasks)
        heads, owners = disjoint_heads(selections, dead)
    else:
        heads = [head for head in joint_heads(selections) if head not in dead]
    if recipe.uses_heads and (warning := dead_heads_warning(heads, config)):
        _warn(run.stages.console, warning)
    return AdapterSpec(config, recipe, tuple(heads), tuple(owners)), selections[0] if selections else None


def _warn(console: Console, text: str) -> None:
    console.print(f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def _open_work_directory(settings: SteerSettings, *, resume: bool, overwrite: bool) -> Path:
    """The `.partial` directory of this run, new or continued."""
    out = settings.out
    work = out.with_name(out.name + ".partial")
    if out.exists() and not overwrite:
        raise RobosteerError(f"--out: found results in {out}, expected a free name; give another or --overwrite")
    if out.exists() and not (out / SUMMARY_FILE).is_file():
        raise RobosteerError(f"--overwrite: found no {SUMMARY_FILE} in {out}, expected results; choose another --out")
    if work.exists() and not resume:
        if not overwrite and _holds_work(work):
            raise RobosteerError(
                f"--out: found an unfinished run in {work}, expected none; give --resume to continue it or --overwrite"
            )
        remove(work)
    told = settings.to_json()
    file = work / SETTINGS_FILE
    if file.exists():
        if changed := first_change(json.loads(file.read_text()), told):
            name, before, now = changed
            raise RobosteerError(
                f"--resume: {name}: found {now}, expected {before} as in the unfinished run; give the same options, or "
                "--overwrite without --resume"
            )
        return work
    write_json(file, told)
    return work


def _holds_work(work: Path) -> bool:
    """Whether an earlier session got anywhere: a run that failed at once leaves nothing worth a question."""
    return any(path.is_file() and path.name not in (SETTINGS_FILE, SECONDS_FILE) for path in work.rglob("*"))


def _publish(work: Path, out: Path) -> None:
    """Give the finished directory its name, replacing older results only now."""
    old = out.with_name(out.name + ".replaced")
    remove(old)
    if out.exists():
        out.rename(old)
    work.rename(out)
    remove(old)
