"""The machine-readable summary of a steering run (`steer.json`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from robosteer_model.config import ModelConfig
from robosteer_training.dataset import Dataset
from robosteer_training.export import Export
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.finetune.state import History
from robosteer_training.finetune.train import TrainResult
from robosteer_training.heads.cache import ActivationCache
from robosteer_training.heads.selection import HeadSelection, dead_heads, dead_heads_warning

SCHEMA = "robosteer.steer/1"
_AVERAGED = 20


def summarise(
    *,
    out: Path,
    base: tuple[Path, str, ModelConfig],
    dataset: Dataset,
    cache: ActivationCache | None,
    selection: HeadSelection | None,
    recipe: dict[str, Any],
    training: tuple[TrainSettings, TrainResult],
    exported: Export,
    seconds: Mapping[str, float],
    reused: Sequence[str],
) -> dict[str, Any]:
    """Everything that one may ask of a run, as plain JSON; times in s, losses in normalised units squared."""
    path, digest, config = base
    settings, result = training
    return {
        "schema": SCHEMA,
        "out": str(out),
        "base": {"path": str(path), "digest": digest, "model_type": config.model_type},
        "dataset": {
            "digest": dataset.digest(),
            "episodes": len(dataset.episodes),
            "frames": len(dataset),
            "stale_frames": int(dataset.stale.sum()),
            "duration_s": round(dataset.duration_s, 3),
            "rate_hz": dataset.rate_hz,
            "instructions": sorted(set(dataset.prompts)),
            "cameras": sorted(dataset.images),
            "rig": dataset.rig.name,
            "rig_digest": dataset.rig.digest(),
        },
        "cache": None
        if cache is None
        else {"frames": cache.rows, "mib": round(cache.mib, 3), **cache.meta["settings"]},
        "heads": None if selection is None else _heads(selection, config),
        "recipe": recipe,
        "training": settings.to_json(),
        "loss": loss_summary(result.history),
        "episodes_held_out": result.heldout_episodes,
        "action_error": {"heldout": [list(pair) for pair in result.history.action_error], "units": "normalised"},
        "plan": None if result.plan is None else result.plan.to_json(),
        "checkpoint": {
            "path": str(out / exported.kind),
            "kind": exported.kind,
            "digest": exported.digest,
            "mib": round(exported.bytes / 2**20, 3),
            "max_action_difference": exported.max_action_difference,
            "verified_frames": exported.verified_frames,
            "leaves_compared_with_base": exported.frozen_leaves,
            "action_change": exported.action_change,
            "bfloat16": {
                "changes_lost": exported.rounding.lost,
                "relative_error": exported.rounding.relative_error,
                "action_difference": exported.bf16_action_difference,
            },
        },
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "seconds_per_step": result.history.seconds / max(len(result.history.loss), 1),
        "data_wait_share": result.history.idle_share,
        "reused": list(reused),
        "versions": {n: version(n) for n in ("robosteer_training", "robosteer_model", "jax", "optax", "numpy")},
    }


def _heads(selection: HeadSelection, config: ModelConfig) -> dict[str, Any]:
    return {
        "method": selection.method,
        "m": selection.m,
        "of": selection.scores.size,
        "k": selection.k,
        "chosen": [list(h) for h in selection.heads],
        "k_search": selection.k_search,
        "score_cv": float(selection.scores.std() / selection.scores.mean()),
        "without_gradient": [list(h) for h in selection.heads if h in dead_heads(config)],
        "warning": dead_heads_warning(selection.heads, config),
    }


def loss_summary(history: History) -> dict[str, float | None]:
    """First and last losses; training losses are means over 20 steps, held-out ones are None without held-out data."""
    before, after = (history.heldout[0][1], history.heldout[-1][1]) if history.heldout else (None, None)
    return {
        "heldout_before": before,
        "heldout_after": after,
        "train_first": float(np.mean(history.loss[:_AVERAGED])),
        "train_last": float(np.mean(history.loss[-_AVERAGED:])),
    }
