"""From base and adapter to an ordinary checkpoint, and the proof that it is the same policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from robosteer_model import pi0
from robosteer_model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from robosteer_model.params import flatten
from robosteer_rig.errors import RobosteerError
from robosteer_training.files import arrays_digest
from robosteer_training.finetune.adapter import Adapter, attach, attached_config, changed_outside, merge
from robosteer_training.finetune.spec import AdapterSpec
from robosteer_training.frames import Frames, observation_of

VERIFY_FRAMES = 16
# Above this, in normalised action units, merged and unmerged policies are not the same one (float32).
MAX_DIFFERENCE = {"float32": 1e-3, "bfloat16": 1e-1}


@dataclasses.dataclass(frozen=True)
class Export:
    """A written and verified checkpoint.

    Attributes:
        path: the checkpoint directory.
        digest: of its parameters.
        max_action_difference: largest |merged - unmerged| over verified frames, steps and dimensions, normalised units.
        frozen_leaves: leaves that are frozen in whole or in part and whose frozen values equal the base bit for bit.
        verified_frames: frames on which actions were compared.
    """

    path: Path
    digest: str
    max_action_difference: float
    frozen_leaves: int
    verified_frames: int


def params_digest(params: Mapping[str, Any]) -> str:
    """sha256 over all leaves: path, shape, dtype and bytes."""
    return arrays_digest({path: jax.device_get(leaf) for path, leaf in flatten(params).items()})


def export(
    directory: Path,
    base: Checkpoint,
    adapter: Adapter,
    spec: AdapterSpec,
    frames: Frames,
    rows: np.ndarray,
    *,
    rig: str,
    provenance: Mapping[str, Any],
    overwrite: bool = False,
) -> Export:
    """Merge in float32, write openpi's layout, reload and verify.

    Args:
        directory: the checkpoint to create.
        base: the checkpoint that was adapted.
        adapter: trained leaves.
        spec: what was trained.
        frames: the data, for the comparison of actions.
        rows: frames to compare on; at most `VERIFY_FRAMES`, spread evenly, are used.
        rig: text of the rig file that the data was recorded with.
        provenance: base and dataset digests, heads, recipe, settings; versions are added.
        overwrite: replace a checkpoint of that name.

    Raises:
        RobosteerError: a frozen value changed, or the reloaded policy acts differently.
    """
    merged = merge(dict(base.params), adapter, spec)
    versions = {name: version(name) for name in ("robosteer_training", "robosteer_model", "jax", "optax", "numpy")}
    checkpoint = dataclasses.replace(
        base, params=merged, config=spec.config, rig=rig, provenance={**provenance, "versions": versions}
    )
    save_checkpoint(directory, checkpoint, overwrite=overwrite)
    reloaded = load_checkpoint(directory)
    if changed := changed_outside(dict(base.params), dict(reloaded.params), spec):
        raise RobosteerError(
            f"export: {changed[0]} and {len(changed) - 1} more changed outside the trainable set; the checkpoint in "
            f"{directory} is not usable, please report this"
        )
    rows = rows[np.linspace(0, len(rows) - 1, min(VERIFY_FRAMES, len(rows))).round().astype(int)]
    difference = action_difference(dict(base.params), dict(reloaded.params), adapter, spec, frames, rows)
    limit = MAX_DIFFERENCE[spec.config.dtype]
    if not difference <= limit:
        raise RobosteerError(
            f"export: merged and unmerged policies differ by {difference:.2e} (normalised), expected at most {limit}; "
            f"the checkpoint in {directory} is not usable, please report this"
        )
    frozen = len(flatten(reloaded.params)) - len(spec.dense_paths)
    return Export(directory, params_digest(reloaded.params), difference, frozen, len(rows))


def action_difference(
    base: dict[str, Any],
    merged: dict[str, Any],
    adapter: Adapter,
    spec: AdapterSpec,
    frames: Frames,
    rows: np.ndarray,
) -> float:
    """Largest difference of sampled actions between the unmerged and the merged policy, in normalised units."""
    batch = dataclasses.replace(frames, image_tokens=None).gather(rows)
    noise = jax.random.normal(jax.random.key(0), batch["actions"].shape)
    sample = partial(jax.jit, static_argnums=(1,))(lambda p, c, b, n: pi0.sample_actions(p, c, observation_of(b), n)[0])
    attached = jax.jit(lambda p, a: attach(p, a, spec))(base, adapter)
    unmerged = sample(attached, attached_config(spec), batch, noise)
    return float(np.max(np.abs(np.asarray(sample(merged, spec.config, batch, noise) - unmerged, np.float32))))
