"""Numbers of a training run; the defaults are the paper's where it has one."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import optax

from robosteer_model.optimizer import AdamW, CosineSchedule
from robosteer_rig.errors import RobosteerError

Augmentation = Literal["none", "light", "openpi"]


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """How the adapter is trained.

    Attributes:
        steps: optimiser steps.
        batch_size: frames per step.
        peak_lr: learning rate after warm-up.
        warmup_steps: linear warm-up; at most a tenth of `steps` is used.
        end_lr_ratio: final learning rate over the peak, reached by a cosine at the last step.
        clip_norm: global gradient norm over trainable leaves.
        seed: of initial factors, batches, noise, times and augmentation.
        augment: "none" computes frozen vision tokens once per frame; "light" shifts and relights a little; "openpi" is
            openpi's crop, rotation and colour jitter.
        holdout: share of episodes kept out of training for the held-out loss (at least one of three or more).
        eval_frames: held-out frames used, spread evenly.
        eval_draws: fixed noise and time draws per held-out frame.
        eval_every: steps between held-out losses; 0 means only before and after.
        save_every: steps between saved states.
    """

    steps: int = 5000
    batch_size: int = 32
    peak_lr: float = 2.5e-5
    warmup_steps: int = 200
    end_lr_ratio: float = 0.1
    clip_norm: float = 1.0
    seed: int = 0
    augment: Augmentation = "none"
    holdout: float = 0.1
    eval_frames: int = 128
    eval_draws: int = 4
    eval_every: int = 250
    save_every: int = 250

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "eval_frames", "eval_draws", "save_every"):
            if getattr(self, name) < 1:
                raise RobosteerError(f"{name}: found {getattr(self, name)}, expected at least 1")
        if not self.peak_lr > 0:
            raise RobosteerError(f"peak_lr: found {self.peak_lr}, expected a positive learning rate")
        if not 0 <= self.holdout < 1:
            raise RobosteerError(f"holdout: found {self.holdout}, expected a share of episodes in [0, 1)")

    def optimizer(self) -> optax.GradientTransformation:
        """AdamW as openpi's, behind global-norm clipping, with its warm-up and cosine."""
        warmup = min(self.warmup_steps, self.steps // 10)
        schedule = CosineSchedule(warmup, self.peak_lr, max(self.steps, warmup + 1), self.peak_lr * self.end_lr_ratio)
        return AdamW(clip_gradient_norm=self.clip_norm).create(schedule.create())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return dataclasses.asdict(self)
