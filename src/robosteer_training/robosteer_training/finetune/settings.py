"""Numbers and switches of a training run; the defaults are the paper's where it has one."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import optax

from robosteer_model.optimizer import AdamW, CosineSchedule
from robosteer_model.remat import Remat
from robosteer_rig.errors import RobosteerError

Augmentation = Literal["none", "light", "openpi"]
# Switches that change how a step is computed but not what it computes (up to rounding).
HOW = ("remat", "memory_limit_gib", "save_every")


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """How the adapter is trained.

    Attributes:
        steps: optimiser steps.
        batch_size: frames per step.
        micro_batch: frames computed at once; the gradients of a step's micro-batches are averaged. 0 takes all.
        flow_draws: (noise, time) draws per frame and step; the prefix is read once for all of them. Not for FAST.
        peak_lr: learning rate after warm-up.
        warmup_steps: linear warm-up; at most a tenth of `steps` is used.
        end_lr_ratio: final learning rate over the peak, reached by a cosine at the last step.
        clip_norm: global gradient norm over trainable leaves.
        seed: of initial factors, batches, noise, times and augmentation.
        augment: "none"; "light" shifts and relights a little; "openpi" is openpi's crop, rotation and colour jitter.
        vision_cache: compute frozen vision tokens once per frame. With augmentation, once per variant.
        augment_variants: augmented variants per frame in the vision cache; 0 augments anew in every step, without it.
        prune: leave out absent views and the padding of prompts; off computes openpi's shapes.
        skip_dead: read the prefix into keys and values only, without the last layer's dead work (pi0 and pi0.5).
        remat: what the backward pass computes again; "auto" takes the fastest that fits into memory.
        bf16_frozen: keep frozen weights in the model's compute dtype, as openpi does; off keeps the stored one.
        balance_tasks: every task (instruction) gives the same share of every batch, however many frames it has.
        holdout: share of episodes kept out of training for the held-out loss (at least one of three or more).
        eval_frames: held-out frames used, spread evenly.
        eval_draws: fixed noise and time draws per held-out frame.
        eval_every: steps between held-out measurements; 0 means only before and after.
        action_frames: held-out frames on which actions are sampled and compared with the recorded ones; 0 for none.
        save_every: steps between saved states.
        memory_limit_gib: memory that a step may use, per device; 0 asks the device.
    """

    steps: int = 5000
    batch_size: int = 32
    micro_batch: int = 0
    flow_draws: int = 1
    peak_lr: float = 2.5e-5
    warmup_steps: int = 200
    end_lr_ratio: float = 0.1
    clip_norm: float = 1.0
    seed: int = 0
    augment: Augmentation = "none"
    vision_cache: bool = True
    augment_variants: int = 0
    prune: bool = True
    skip_dead: bool = True
    remat: Remat | Literal["auto"] = "auto"
    bf16_frozen: bool = True
    balance_tasks: bool = False
    holdout: float = 0.1
    eval_frames: int = 128
    eval_draws: int = 4
    eval_every: int = 250
    action_frames: int = 16
    save_every: int = 250
    memory_limit_gib: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "flow_draws", "eval_frames", "eval_draws", "save_every"):
            if getattr(self, name) < 1:
                raise RobosteerError(f"{name}: found {getattr(self, name)}, expected at least 1")
        for name in ("micro_batch", "augment_variants", "eval_every", "action_frames", "memory_limit_gib"):
            if getattr(self, name) < 0:
                raise RobosteerError(f"{name}: found {getattr(self, name)}, expected 0 or more")
        if not self.peak_lr > 0:
            raise RobosteerError(f"peak_lr: found {self.peak_lr}, expected a positive learning rate")
        if not 0 <= self.holdout < 1:
            raise RobosteerError(f"holdout: found {self.holdout}, expected a share of episodes in [0, 1)")
        if self.micro_batch and self.batch_size % self.micro_batch:
            raise RobosteerError(
                f"micro_batch: found {self.micro_batch}, expected a divisor of the batch size {self.batch_size}"
            )
        if self.augment_variants and self.augment == "none":
            raise RobosteerError("augment_variants: found some, expected none without augmentation; give --augment")

    @property
    def micro_batches(self) -> int:
        """How many micro-batches make a step."""
        return self.batch_size // self.micro_batch if self.micro_batch else 1

    @property
    def caches_vision(self) -> bool:
        """Whether vision tokens can be computed before training, if the encoder is frozen."""
        return self.vision_cache and (self.augment == "none" or self.augment_variants > 0)

    def optimizer(self) -> optax.GradientTransformation:
        """AdamW as openpi's, behind global-norm clipping, with its warm-up and cosine."""
        warmup = min(self.warmup_steps, self.steps // 10)
        schedule = CosineSchedule(warmup, self.peak_lr, max(self.steps, warmup + 1), self.peak_lr * self.end_lr_ratio)
        return AdamW(clip_gradient_norm=self.clip_norm).create(schedule.create())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return dataclasses.asdict(self)

    def identity(self) -> dict[str, Any]:
        """What must be equal for a run to be continued bit for bit.

        Where `remat` is "auto" the choice depends on the machine; it changes rounding only.
        """
        return {name: value for name, value in self.to_json().items() if name not in HOW}
