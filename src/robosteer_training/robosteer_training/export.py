"""From base and adapter to an ordinary checkpoint (or a small adapter), and the proof that it is the same policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robosteer_model import pi0, pi0_fast
from robosteer_model.adapter_file import Adapter as AdapterFile
from robosteer_model.adapter_file import load_adapter, save_adapter
from robosteer_model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from robosteer_model.config import ModelConfig
from robosteer_model.deltas import Rounding, apply_deltas, bfloat16_rounding, changed_outside
from robosteer_model.digest import params_digest
from robosteer_model.params import flatten
from robosteer_rig.errors import RobosteerError
from robosteer_training.finetune.adapter import attach, attached_config, deltas
from robosteer_training.finetune.spec import AdapterSpec
from robosteer_training.frames import Frames, observation_of

VERIFY_FRAMES = 16
# Above this, in normalised action units, merged and unmerged policies are not the same one.
MAX_DIFFERENCE = {"float32": 1e-3, "bfloat16": 1e-1}


@dataclasses.dataclass(frozen=True)
class Export:
    """A written and verified checkpoint or adapter.

    Attributes:
        path: its directory.
        kind: "checkpoint" or "adapter".
        digest: of the merged parameters.
        bytes: size on disk.
        max_action_difference: largest |merged - unmerged| over verified frames, steps and dimensions, normalised units;
            for FAST models of the log-probabilities of action tokens.
        frozen_leaves: leaves that are frozen in whole or in part and whose frozen values equal the base bit for bit.
        verified_frames: frames on which actions were compared.
        rounding: what rounding every parameter to bfloat16, as openpi's loader does, leaves of the change.
        bf16_action_difference: largest |rounded - unrounded| of the merged policy's actions.
        action_change: largest |merged - base|: what finetuning did, for comparison.
    """

    path: Path
    kind: str
    digest: str
    bytes: int
    max_action_difference: float
    frozen_leaves: int
    verified_frames: int
    rounding: Rounding
    bf16_action_difference: float
    action_change: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return dataclasses.asdict(self) | {"path": str(self.path)}


@dataclasses.dataclass(frozen=True)
class Check:
    """On what policies are compared.

    Attributes:
        frames: the data.
        rows: frames to compare on; at most `VERIFY_FRAMES`, spread evenly, are used.
    """

    frames: Frames
    rows: np.ndarray

    @property
    def chosen(self) -> np.ndarray:
        """The rows used."""
        return self.rows[np.linspace(0, len(self.rows) - 1, min(VERIFY_FRAMES, len(self.rows))).round().astype(int)]

    def outputs(
        self, params: Any, config: ModelConfig, unmerged: tuple[AdapterSpec, Mapping[str, Any]] | None = None
    ) -> np.ndarray:
        """What a policy does on these frames: action chunks, or log-probabilities of FAST's action tokens.

        Args:
            params: openpi's tree.
            config: the model.
            unmerged: an adapter to run beside the parameters.
        """
        batch = dataclasses.replace(self.frames, image_tokens=None).gather(self.chosen)
        noise = jax.random.normal(jax.random.key(0), batch["actions"].shape)
        spec, adapter = unmerged or (None, {})
        return np.asarray(_outputs(params, dict(adapter), config, spec, batch, noise), np.float32)


@partial(jax.jit, static_argnums=(2, 3))
def _outputs(
    params: Any,
    adapter: dict[str, Any],
    config: ModelConfig,
    spec: AdapterSpec | None,
    batch: dict[str, Any],
    noise: jax.Array,
) -> jax.Array:
    if spec is not None:
        params, config = attach(params, adapter, spec), attached_config(spec)
    observation = observation_of(batch)
    if config.model_type != "pi0_fast":
        return pi0.sample_actions(params, config, observation, noise)[0]
    logits = pi0_fast.text_pass(params, config, observation).logits
    of_targets = jnp.take_along_axis(jax.nn.log_softmax(logits), observation.tokenized_prompt[:, 1:, None], axis=-1)
    return jnp.where(batch["token_loss_mask"][:, 1:], of_targets[..., 0], 0.0)


def export(
    directory: Path,
    base: Checkpoint,
    adapter: Mapping[str, Any],
    spec: AdapterSpec,
    check: Check,
    *,
    rig: str,
    provenance: Mapping[str, Any],
    overwrite: bool = False,
    apart: bool = False,
) -> Export:
    """Merge in float32, write openpi's layout, reload and verify.

    Args:
        directory: the checkpoint to create.
        base: the checkpoint that was adapted.
        adapter: trained leaves.
        spec: what was trained.
        check: frames for the comparison of actions.
        rig: text of the rig file that the data was recorded with.
        provenance: base and dataset digests, heads, recipe, settings; versions are added.
        overwrite: replace a checkpoint of that name.
        apart: write a small adapter instead, for `robosteer checkpoint merge`.

    Raises:
        RobosteerError: a frozen value changed, or the reloaded policy acts differently.
    """
    changes = deltas(adapter, spec)
    versions = {name: version(name) for name in ("robosteer_training", "robosteer_model", "jax", "optax", "numpy")}
    told = {**provenance, "versions": versions}
    if apart:
        digest = str(provenance.get("base_digest") or params_digest(base.params))
        save_adapter(directory, AdapterFile(tuple(changes), digest, spec.config, rig, told), overwrite=overwrite)
        reloaded = apply_deltas(base.params, load_adapter(directory).deltas)
    else:
        merged = apply_deltas(base.params, changes)
        checkpoint = dataclasses.replace(base, params=merged, config=spec.config, rig=rig, provenance=told)
        save_checkpoint(directory, checkpoint, overwrite=overwrite)
        reloaded = dict(load_checkpoint(directory).params)
    if changed := changed_outside(base.params, reloaded, changes):
        raise RobosteerError(
            f"export: {changed[0]} and {len(changed) - 1} more changed outside the trainable set; what is in "
            f"{directory} is not usable, please report this"
        )
    acted = check.outputs(reloaded, spec.config)
    difference = _largest(acted - check.outputs(dict(base.params), spec.config, (spec, adapter)))
    limit = MAX_DIFFERENCE[spec.config.dtype]
    if not difference <= limit:
        raise RobosteerError(
            f"export: merged and unmerged policies differ by {difference:.2e} (normalised), expected at most {limit}; "
            f"what is in {directory} is not usable, please report this"
        )
    rounded = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), reloaded)
    return Export(
        path=directory,
        kind="adapter" if apart else "checkpoint",
        digest=params_digest(reloaded),
        bytes=sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()),
        max_action_difference=difference,
        frozen_leaves=len(flatten(reloaded)) - len(spec.dense_paths),
        verified_frames=len(check.chosen),
        rounding=bfloat16_rounding(base.params, reloaded, changes),
        bf16_action_difference=_largest(acted - check.outputs(rounded, spec.config)),
        action_change=_largest(acted - check.outputs(dict(base.params), spec.config)),
    )


def _largest(difference: np.ndarray) -> float:
    return float(np.max(np.abs(difference)))
