"""The whole chain: recordings to dataset to heads to sparse finetuning to checkpoint and report.

Everything is written below `<out>.partial`, which becomes `<out>` when all of it is there. Each stage says what it
reuses; after Ctrl-C or a crash `resume` continues at the frame, episode or training state that was reached.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from robosteer_model.checkpoint import load_checkpoint
from robosteer_rig.errors import RobosteerError
from robosteer_training.export import params_digest
from robosteer_training.files import remove, write_json
from robosteer_training.finetune.explain import explain
from robosteer_training.finetune.recipes import recipe_by_name
from robosteer_training.finetune.spec import AdapterSpec
from robosteer_training.frames import prepare_frames
from robosteer_training.heads.cache import ActivationCache
from robosteer_training.heads.selection import HeadSelection, dead_heads_warning
from robosteer_training.pipeline import Pipeline, check_convention, convert
from robosteer_training.report.html import write_report
from robosteer_training.report.summary import summarise
from robosteer_training.stages import Stages
from robosteer_training.steer_settings import SteerSettings

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
    recipe = recipe_by_name(settings.recipe)
    work = _open_work_directory(settings, resume=resume, overwrite=overwrite)
    selecting = settings.selection is None and settings.select
    stages = Stages(console, work / SECONDS_FILE, count=6 if selecting else 4)
    base = load_checkpoint(settings.base)
    digest = params_digest(base.params)

    dataset = convert(settings, work, stages)
    check_convention(dataset, base)
    run = Pipeline(settings, work, stages, base, digest, dataset, prepare_frames(dataset, base))
    cache = run.cache() if selecting else None
    selection = _selection(run, cache)
    heads = selection.heads if selection else []
    if recipe.uses_heads and (warning := dead_heads_warning(heads, base.config)):
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    spec = AdapterSpec(base.config, recipe, tuple(heads))
    result = run.finetune(spec)
    exported = run.export(spec, selection, result)
    with stages.run("report") as stage:
        told = explain(base.config, recipe, len(heads), heads)
        summary = summarise(
            out=settings.out,
            base=(settings.base, digest, base.config),
            dataset=dataset,
            cache=cache,
            selection=selection,
            recipe=told,
            training=(settings.training, result),
            exported=exported,
            seconds=stages.seconds,
            reused=stages.reused,
        )
        write_report(work / REPORT_FILE, summary, selection, result.history, dataset)
        write_json(work / SUMMARY_FILE, summary)
        stage.outcome = str(settings.out / REPORT_FILE)
    _publish(work, settings.out)
    return summary


def _selection(run: Pipeline, cache: ActivationCache | None) -> HeadSelection | None:
    if cache is not None:
        return run.select(cache)
    if run.settings.selection is None:
        return None
    selection = HeadSelection.load(run.settings.selection)
    selection.check_model(run.base.config, run.base_digest)
    return selection


def _open_work_directory(settings: SteerSettings, *, resume: bool, overwrite: bool) -> Path:
    """The `.partial` directory of this run, new or continued."""
    out = settings.out
    work = out.with_name(out.name + ".partial")
    if out.exists() and not overwrite:
        raise RobosteerError(f"--out: found results in {out}, expected a free name; give another or --overwrite")
    if work.exists() and not resume:
        if not overwrite and _holds_work(work):
            raise RobosteerError(
                f"--out: found an unfinished run in {work}, expected none; give --resume to continue it or --overwrite"
            )
        remove(work)
    told = settings.to_json()
    file = work / SETTINGS_FILE
    if file.exists():
        before = json.loads(file.read_text())
        changed = [name for name in told if before.get(name) != told[name]]
        if changed:
            raise RobosteerError(
                f"--resume: {changed[0]}: found {before.get(changed[0])}, expected {told[changed[0]]} as before; "
                "give the same options or --overwrite without --resume"
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
