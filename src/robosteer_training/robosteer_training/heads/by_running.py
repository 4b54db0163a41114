"""Selections that run the model under edits: causal ablation and REINFORCE."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from robosteer_model.checkpoint import load_checkpoint
from robosteer_rig.errors import RobosteerError
from robosteer_training.dataset import load_dataset
from robosteer_training.export import params_digest
from robosteer_training.files import json_digest
from robosteer_training.frames import model_frames
from robosteer_training.heads.cma import CmaSettings, causal_effects, spread_rows
from robosteer_training.heads.edited_loss import EditedLoss, LossSettings
from robosteer_training.heads.knn import rank_heads
from robosteer_training.heads.reinforce import ReinforceSettings, learn_probabilities
from robosteer_training.heads.select import KnnSettings, Progress, excluded_heads, make_selection, wanted_heads
from robosteer_training.heads.selection import HeadSelection
from robosteer_training.heads.source import Source

if TYPE_CHECKING:
    from robosteer_model.checkpoint import Checkpoint
    from robosteer_model.tokenizer_fast import ActionTokens
    from robosteer_training.dataset import Dataset


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """How the model is run.

    Attributes:
        method: which.
        loss: what is measured.
        cma: for causal ablation.
        reinforce: for REINFORCE.
        frames: frames to run on, evenly spread.
    """

    method: Literal["cma", "reinforce"]
    loss: LossSettings
    cma: CmaSettings = dataclasses.field(default_factory=CmaSettings)
    reinforce: ReinforceSettings = dataclasses.field(default_factory=ReinforceSettings)
    frames: int = 128


def open_matching(source: Source, dataset: Path, base: Path) -> tuple[Dataset, Checkpoint]:
    """The dataset and the checkpoint that a cache was made of.

    Raises:
        RobosteerError: several caches, or one of other data or another checkpoint.
    """
    if len(source.caches) != 1:
        raise RobosteerError(f"--cache: found {len(source.caches)}, expected one where the dataset is read too")
    meta = source.caches[0].meta
    data, checkpoint = load_dataset(dataset), load_checkpoint(base)
    found = {"dataset_digest": data.digest(), "checkpoint_digest": params_digest(checkpoint.params)}
    for name, path in (("dataset_digest", dataset), ("checkpoint_digest", base)):
        if meta[name] != found[name]:
            what = name.removesuffix("_digest")
            raise RobosteerError(
                f"{what}: found {path} ({found[name][:12]}), expected the one of the cache ({meta[name][:12]}); "
                "give the same, or run `robosteer heads cache` again"
            )
    return data, checkpoint


def select_by_running(
    source: Source,
    settings: KnnSettings,
    run: RunSettings,
    dataset: Path,
    base: Path,
    action_tokens: ActionTokens | None = None,
    *,
    rows: np.ndarray | None = None,
    path: Path | None = None,
    progress: Progress | None = None,
) -> HeadSelection:
    """Choose the m heads whose noise hurts most, or that REINFORCE keeps.

    Args:
        source: the cache, for rows, tasks and provenance.
        settings: m and excluded heads.
        run: how.
        dataset: of the cache.
        base: of the cache.
        action_tokens: pi0-FAST's action tokenizer.
        rows: rows of the source; None for the usable ones.
        path: of the result; unfinished work is kept beside it.
        progress: called with (passes done, passes).
    """
    data, checkpoint = open_matching(source, dataset, base)
    used = source.rows if rows is None else rows
    frames_of = source.caches[0].frame_index[used]
    loss = EditedLoss(checkpoint.params, checkpoint.config, model_frames(data, checkpoint, action_tokens), run.loss)
    key = json_digest([source.key, dataclasses.asdict(run.loss)])
    chosen: dict[str, Any] = {"loss": dataclasses.asdict(run.loss), "frames": run.frames}
    if run.method == "cma":
        effects = causal_effects(loss, frames_of, run.cma, key=key, path=path, progress=progress)
        scores = -effects.effect
        chosen |= {"cma": dataclasses.asdict(run.cma)}
        details = {"loss": effects.loss, "spread_between_draws": effects.spread.tolist()}
    else:
        picks = spread_rows(frames_of, run.frames)
        learned = learn_probabilities(loss, picks, run.reinforce, key=key, path=path, progress=progress)
        scores = learned.dropped
        chosen |= {"reinforce": dataclasses.asdict(run.reinforce)}
        details = {"loss_per_update": learned.losses.tolist()}
    heads = rank_heads(scores, excluded_heads(source, settings))[: wanted_heads(source, settings)]
    return make_selection(source, settings, run.method, scores, heads, rows=used, chosen=chosen, details=details)
