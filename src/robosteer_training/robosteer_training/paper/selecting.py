"""Head selection by any method of the papers, from one name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_training.heads import select
from robosteer_training.heads.by_running import RunSettings, select_by_running
from robosteer_training.heads.cma import CmaSettings
from robosteer_training.heads.edited_loss import LossSettings
from robosteer_training.heads.reinforce import ReinforceSettings
from robosteer_training.heads.select import KnnSettings, Progress
from robosteer_training.heads.selection import HeadSelection
from robosteer_training.heads.source import Source

_SCORED: dict[str, Callable[..., HeadSelection]] = {
    "knn": select.select_by_knn,
    "worst": select.select_worst,
    "all": select.select_all,
}


def choose(
    source: Source,
    settings: KnnSettings,
    method: str,
    *,
    rows: np.ndarray | None,
    run: tuple[Path, Path, int, int],
    path: Path,
    progress: Progress | None = None,
) -> HeadSelection:
    """Select heads.

    Args:
        source: activations.
        settings: position, m and excluded heads.
        method: knn, random, worst, all, cma or reinforce.
        rows: rows of the source to use; None for the usable ones.
        run: for cma and reinforce: dataset, checkpoint, frames and updates.
        path: of the result; unfinished work is kept beside it.
        progress: called with (parts done, parts).
    """
    if method == "random":
        return select.select_random(source, settings, rows=rows)
    if method in _SCORED:
        return _SCORED[method](source, settings, progress, rows=rows)
    if method not in ("cma", "reinforce"):
        raise RobosteerError(f"method: found {method!r}, expected one of {['random', *_SCORED, 'cma', 'reinforce']}")
    dataset, base, frames, steps = run
    kind = "flow" if method == "cma" else "actions"
    how = RunSettings(
        method="cma" if method == "cma" else "reinforce",
        loss=LossSettings("suffix", kind, 2 if method == "cma" else 1),
        cma=CmaSettings(frames=frames),
        reinforce=ReinforceSettings(steps=steps),
        frames=frames,
    )
    return select_by_running(source, settings, how, dataset, base, rows=rows, path=path, progress=progress)
