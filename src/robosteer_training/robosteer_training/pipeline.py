"""The stages of `robosteer steer`, one method each; `steer.py` runs them in order."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from robosteer_model.checkpoint import Checkpoint
from robosteer_rig.rig import load_rig
from robosteer_training.convert import ConvertSettings, Summary, convert_bags
from robosteer_training.dataset import Dataset, load_dataset
from robosteer_training.export import Check, Export, export
from robosteer_training.finetune.placement import Placement
from robosteer_training.finetune.sparkline import sparkline
from robosteer_training.finetune.spec import AdapterSpec
from robosteer_training.finetune.state import History
from robosteer_training.finetune.train import TrainResult, Watch, train
from robosteer_training.finetune.vision import encode_frames, fits_on_disk, vision_bytes
from robosteer_training.frames import Frames
from robosteer_training.heads.cache import ActivationCache, describe_episodes, fill_cache
from robosteer_training.heads.select import select_by_knn, selection_key
from robosteer_training.heads.selection import HeadSelection
from robosteer_training.stages import Stage, Stages
from robosteer_training.steer_settings import SteerSettings

HEADS_FILE = "heads.json"


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
                episodes=describe_episodes(self.dataset),
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
        settings = self.settings.training
        with self.stages.run("finetune") as stage:
            frames = self._with_vision(spec, stage)
            stepped: list[int] = []

            def progress(done: int, history: History) -> None:
                stepped.append(done)
                curve = sparkline(history.loss)
                stage.advance(done, settings.steps, f"loss {np.mean(history.loss[-20:]):.4f} {curve}")
                if history.heldout and history.heldout[-1][0] == done:
                    stage.say(f"step {done}: {measured_text(history)} {curve}")

            result = train(
                self.base.params,
                spec,
                frames,
                settings,
                self.work / "train",
                source=self.source,
                resume=True,
                watch=Watch(progress, lambda plan: stage.say("\n  ".join(plan.lines())), self.settings.log),
                placement=Placement(self.settings.fsdp),
            )
            stage.reused = not stepped
            resumed = f", resumed at step {stepped[0] - 1}" if stepped and stepped[0] > 1 else ""
            stage.outcome = f"{_loss_text(result.history)}, {settings.steps} steps{resumed}"
        return result

    @property
    def source(self) -> str:
        """What the training state belongs to."""
        return f"{self.base_digest} {self.dataset.digest()}"

    def _with_vision(self, spec: AdapterSpec, stage: Stage) -> Frames:
        """The frames with vision tokens in place of images, where these can be computed once."""
        settings, frames = self.settings.training, self.frames
        if not (settings.caches_vision and spec.vision_is_frozen):
            return frames
        # Every process makes its own: they need not share a file system.
        directory = self.work / ("vision" if jax.process_count() == 1 else f"vision_{jax.process_index()}")
        needed = vision_bytes(spec.config, frames, settings)
        if not fits_on_disk(directory, needed):
            stage.say(f"vision tokens would take {needed / 2**30:.1f} GiB of disk; they are computed in every step")
            return frames
        tokens = encode_frames(
            self.base.params,
            spec.config,
            frames,
            settings,
            directory,
            source=self.source,
            progress=lambda done, total: stage.advance(done, total, "(vision)"),
        )
        return dataclasses.replace(frames, image_tokens=tokens)

    def export(self, spec: AdapterSpec, selection: HeadSelection | None, result: TrainResult) -> Export:
        """Merge, write, reload, compare."""
        kind = "adapter" if self.settings.adapter else "checkpoint"
        with self.stages.run(kind) as stage:
            exported = export(
                self.work / kind,
                self.base,
                result.adapter,
                spec,
                Check(self.frames, self.frames.rows_of(np.array(result.heldout_episodes or result.train_episodes))),
                rig=self.dataset.rig.to_yaml(),
                provenance=self._provenance(spec, selection),
                overwrite=True,
                apart=self.settings.adapter,
            )
            stage.outcome = (
                f"merged and reloaded, actions differ by at most {exported.max_action_difference:.1e} (normalised); "
                f"in bfloat16 {exported.rounding.lost:.0%} of the changes are lost and actions differ by "
                f"{exported.bf16_action_difference:.1e}"
            )
        return exported

    def _provenance(self, spec: AdapterSpec, selection: HeadSelection | None) -> dict[str, Any]:
        chosen = {} if selection is None else selection.to_json()
        return {
            "made_by": "robosteer steer",
            "base_digest": self.base_digest,
            "base_provenance": dict(self.base.provenance),
            "dataset_digest": self.dataset.digest(),
            "rig_digest": self.dataset.rig.digest(),
            "instructions": sorted(set(self.dataset.prompts)),
            "selection": {name: chosen.get(name) for name in ("method", "k", "settings", "provenance")},
            **spec.to_json(),
            "training": self.settings.training.to_json(),
        }


def measured_text(history: History) -> str:
    """The last held-out measurements."""
    text = f"held-out loss {history.heldout[-1][1]:.4f}"
    return text + (f", action error {history.action_error[-1][1]:.4f}" if history.action_error else "")


def _loss_text(history: History) -> str:
    if history.heldout:
        return f"held-out loss {history.heldout[0][1]:.4f} to {history.heldout[-1][1]:.4f}"
    return f"training loss {history.loss[0]:.4f} to {np.mean(history.loss[-20:]):.4f}"
