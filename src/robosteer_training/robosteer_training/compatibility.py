"""Whether a dataset and a base checkpoint mean the same by their numbers, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from robosteer_model.checkpoint import Checkpoint
from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import differences, parse_rig
from robosteer_training.dataset import Dataset
from robosteer_training.frames import Frames

# Fields of the rig that say what an action is; those that only say how it was recorded may differ.
_MEANING = ("action.convention", "action.unit_rad_per_s")
# Normalised values beyond these make the loss meaningless (openpi clips nothing).
LARGEST_USUAL = 10.0
LARGEST = 100.0


def check_convention(dataset: Dataset, base: Checkpoint) -> list[str]:
    """An action must mean the same in the data and in the base model.

    Returns:
        Warnings.

    Raises:
        RobosteerError: naming the field.
    """
    action = dataset.rig.action
    told: Mapping[str, Any] = {
        "action.convention": str(action.convention),
        "action.unit_rad_per_s": action.unit_rad_per_s,
    }
    if base.rig is not None:
        found = {
            line.split(":", 1)[0]: line for line in differences(dataset.rig, parse_rig(base.rig, source="base rig"))
        }
        for name in _MEANING:
            if name in found:
                raise RobosteerError(f"rig: {found[name]} as in the base checkpoint; convert the data for this base")
    for name, ours in told.items():
        theirs = base.action_convention.get(name.removeprefix("action."))
        if theirs is not None and theirs != ours:
            raise RobosteerError(
                f"rig: {name}: found {ours}, expected {theirs} as the base checkpoint's action_convention says; "
                "convert the data for this base"
            )
    rate = base.action_convention.get("rate_hz")
    if rate is not None and abs(rate - dataset.rate_hz) > 1e-6:
        return [
            f"the data has {dataset.rate_hz:g} frames per second, the base model's actions {rate:g}: a step of the "
            "adapted policy lasts as long as one of the data"
        ]
    return []


def check_statistics(dataset: Dataset, base: Checkpoint, frames: Frames | None = None) -> None:
    """The base's normalisation must exist and fit the data.

    Args:
        dataset: the data.
        base: whose statistics are used.
        frames: the normalised data; None checks sizes only.

    Raises:
        RobosteerError: statistics that are missing, of another size, or that blow the data up; no data to use.
    """
    stats = base.norm_stats
    if stats is None or not {"state", "actions"} <= set(stats):
        found = "no statistics" if stats is None else sorted(stats)
        raise RobosteerError(
            f"--base: found {found}, expected assets/<id>/norm_stats.json with state and actions; copy assets/ of the "
            "checkpoint that this one was made from"
        )
    for name, size in (("state", dataset.state.shape[1]), ("actions", dataset.actions.shape[1])):
        if len(stats[name].mean) < size:
            raise RobosteerError(
                f"norm_stats: {name}: found {len(stats[name].mean)} dimensions, expected at least {size} as in the "
                "data; choose the statistics of this robot"
            )
    if frames is None:
        return
    if not frames.usable.any():
        raise RobosteerError(
            f"dataset: found no usable frames of {len(frames)}, expected some; choose more keyframes or record again"
        )
    for name, values in (("state", frames.state), ("actions", frames.actions)):
        size = np.abs(values[frames.usable])
        usual, largest = np.quantile(size, 0.99, axis=0), size.max(axis=0)
        bad = np.flatnonzero((usual > LARGEST_USUAL) | (largest > LARGEST) | ~np.isfinite(largest))
        if bad.size:
            first = int(bad[0])
            raise RobosteerError(
                f"norm_stats: {name}[{first}]: found normalised values up to {largest[first]:.3g} "
                f"(99 % below {usual[first]:.3g}), expected about 1; the base's statistics were made for another robot "
                "or in other units"
            )
