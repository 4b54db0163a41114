"""The stages of `robosteer steer`, one method each; `steer.py` runs them in order."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from robosteer_model.checkpoint import Checkpoint
from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import differences, load_rig, parse_rig
from robosteer_training.convert import ConvertSettings, Summary, convert_bags
from robosteer_training.dataset import Dataset, load_dataset
from robosteer_training.export import Export, export
from robosteer_training.finetune.loss import encode_frames
from robosteer_training.finetune.spec import AdapterSpec
from robosteer_training.finetune.state import History
from robosteer_training.finetune.train import TrainResult, train
from robosteer_training.frames import Frames
from robosteer_training.heads.cache import ActivationCache, fill_cache
from robosteer_training.heads.select import select_by_knn, selection_key
from robosteer_training.heads.selection import HeadSelection
from robosteer_training.stages import Stages
from robosteer_training.steer_settings import SteerSettings

HEADS_FILE = "heads.json"
# Vision tokens are kept in memory; beyond this they are computed in every step.
MAX_VISION_CACHE_BYTES = 4 * 2**30


def convert(settings: SteerSettings, work: Path, stages: Stages) -> Dataset:
    """Recordings to a dataset, or the dataset that was given."""
    with stages.run("dataset") as stage:
        if settings.bag is None:
            assert settings.dataset is not None  # noqa: S101 (checked by the settings)
            dataset = load_dataset(settings.dataset)
            stage.reused = True
        else:
            summary = Summary()
            dataset = convert_bags(
                settings.bag,
                work / "dataset",
                None if settings.rig is None else load_rig(settings.rig),
                settings=ConvertSettings(instruction=settings.instruction),
                jobs=settings.jobs,
                progress=stage.bar,
                skip_bad=settings.skip_bad,
                summary=summary,
            )
            stage.reused = summary.converted == 0
        stage.outcome = f"{len(dataset.episodes)} episodes, {len(dataset)} frames ({dataset.duration_s:.0f} s)"
    return dataset


def check_convention(dataset: Dataset, base: Checkpoint) -> None:
    """An action must mean the same in the data and in the base model.

    Raises:
        RobosteerError: naming the field.
    """
    if base.rig is None:
        return
    for line in differences(dataset.rig, parse_rig(base.rig, source="base checkpoint: rig")):
        if line.startswith(("action.convention:", "action.unit_rad_per_s:")):
            raise RobosteerError(f"rig: {line} as in the base checkpoint; convert the data for this base")


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """What all stages after the conversion share.

    Attributes:
        settings: what and how.
        work: the unfinished results.
        stages: progress and times.
        base: the checkpoint to adapt.
        base_digest: of its parameters.
        dataset: the data.
        frames: the data as the model sees it.
    """

    settings: SteerSettings
    work: Path
    stages: Stages
    base: Checkpoint
    base_digest: str
    dataset: Dataset
    frames: Frames

    def cache(self) -> ActivationCache:
        """One forward pass per frame."""
        with self.stages.run("activations") as stage:
            calls: list[int] = []

            def progress(done: int, total: int) -> None:
                calls.append(done)
                stage.advance(done, total)

            cache = fill_cache(
                self.work / "cache",
                self.base.params,
                self.base.config,
                self.frames,
                self.settings.cache,
                checkpoint_digest=self.base_digest,
                dataset_digest=self.dataset.digest(),
                progress=progress,
            )
            stage.reused = not calls
            _, layers, heads, _ = cache.meta["shape"]
            stage.outcome = f"{layers * heads} heads on {cache.rows} frames, {cache.mib:.1f} MiB"
        return cache

    def select(self, cache: ActivationCache) -> HeadSelection:
        """Score the heads, choose some."""
        with self.stages.run("heads") as stage:
            file = self.work / HEADS_FILE
            selection = HeadSelection.load(file) if file.exists() else None
            if selection and selection.provenance.get("key") == selection_key(cache, self.settings.heads):
                stage.reused = True
            else:
                selection = select_by_knn(cache, self.settings.heads, stage.advance)
                selection.save(file)
            dropped = selection.settings["dropped_ks"]
            note = f"; k of {dropped} exceed the neighbours available" if dropped else ""
            stage.outcome = f"{selection.m} of {selection.scores.size} chosen, k = {selection.k}{note}"
        return selection

    def finetune(self, spec: AdapterSpec) -> TrainResult:
        """Train the adapter, from where an earlier session stopped."""
        settings, frames = self.settings.training, self.frames
        with self.stages.run("finetune") as stage:
            if settings.augment == "none" and _vision_is_frozen(spec) and _fits(frames, spec):
                tokens = encode_frames(
                    self.base.params, spec.config, frames, lambda done, total: stage.advance(done, total, "(vision)")
                )
                frames = dataclasses.replace(frames, image_tokens=tokens)
            stepped: list[int] = []

            def progress(done: int, history: History) -> None:
                stepped.append(done)
                stage.advance(done, settings.steps, f"loss {np.mean(history.loss[-20:]):.4f}")

            result = train(
                self.base.params,
                spec,
                frames,
                settings,
                self.work / "train",
                source=f"{self.base_digest} {self.dataset.digest()}",
                resume=True,
                progress=progress,
            )
            stage.reused = not stepped
            resumed = f", resumed at step {stepped[0] - 1}" if stepped and stepped[0] > 1 else ""
            stage.outcome = f"{_loss_text(result.history)}, {settings.steps} steps{resumed}"
        return result

    def export(self, spec: AdapterSpec, selection: HeadSelection | None, result: TrainResult) -> Export:
        """Merge, write, reload, compare."""
        with self.stages.run("checkpoint") as stage:
            chosen = {} if selection is None else selection.to_json()
            exported = export(
                self.work / "checkpoint",
                self.base,
                result.adapter,
                spec,
                self.frames,
                self.frames.rows_of(np.array(result.heldout_episodes or result.train_episodes)),
                rig=self.dataset.rig.to_yaml(),
                provenance={
                    "made_by": "robosteer steer",
                    "base_digest": self.base_digest,
                    "base_provenance": dict(self.base.provenance),
                    "dataset_digest": self.dataset.digest(),
                    "rig_digest": self.dataset.rig.digest(),
                    "instructions": sorted(set(self.dataset.prompts)),
                    "selection": {name: chosen.get(name) for name in ("method", "k", "settings", "provenance")},
                    **spec.to_json(),
                    "training": self.settings.training.to_json(),
                },
                overwrite=True,
            )
            stage.outcome = (
                f"merged and reloaded, actions differ by at most {exported.max_action_difference:.1e} (normalised)"
            )
        return exported


def _loss_text(history: History) -> str:
    if history.heldout:
        return f"held-out loss {history.heldout[0][1]:.4f} to {history.heldout[-1][1]:.4f}"
    return f"training loss {history.loss[0]:.4f} to {np.mean(history.loss[-20:]):.4f}"


def _vision_is_frozen(spec: AdapterSpec) -> bool:
    return not any(path.startswith("PaliGemma/img/") for path in spec.dense_paths)


def _fits(frames: Frames, spec: AdapterSpec) -> bool:
    per_image = spec.config.siglip.num_tokens * spec.config.paligemma.width * np.dtype(np.float32).itemsize
    return len(frames) * len(frames.images) * per_image <= MAX_VISION_CACHE_BYTES
