"""Options that `robosteer steer` and `robosteer finetune` share: what is trained, and how."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from robosteer_training.finetune.settings import TrainSettings

QUICK_STEPS = 100


@dataclasses.dataclass(frozen=True)
class RecipeOptions:
    """What is trained."""

    recipe: str = "steering"
    """steering, paper-text, q-only, q+mlp, no-heads, lora, lora-frozen-vision, steering-full or full."""
    rank: int | None = None
    """Rank of the recipe's low-rank factors; by default the recipe's own."""
    alpha: float | None = None
    """Numerator of the attention LoRA's scale alpha/rank; by default the scale is 1."""
    streams: tuple[Literal["paligemma", "expert"], ...] | None = None
    """Experts whose heads and FFNs are adapted; by default PaliGemma alone."""
    exclude_dead_heads: bool = False
    """Leave out the last layer's heads, which receive no gradient in pi0 and pi0.5."""

    def steer_fields(self) -> dict[str, Any]:
        """Fields of `SteerSettings`."""
        return {"recipe": self.recipe, "rank": self.rank, "alpha": self.alpha, "streams": self.streams}


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How it is trained. Switches for speed change rounding at most, unless they say otherwise."""

    steps: int = 5000
    """Optimiser steps."""
    quick: bool = False
    """At most 100 steps: to see that everything works."""
    batch_size: int = 32
    """Frames per step."""
    micro_batch: int = 0
    """Frames computed at once (gradients are accumulated); 0 takes the whole batch. Less memory, same step."""
    flow_draws: int = 1
    """(noise, time) draws per frame and step; the prefix is read once for all of them. The paper takes 1."""
    peak_lr: float = 2.5e-5
    """Learning rate after warm-up."""
    warmup_steps: int = 200
    """Steps of linear warm-up (at most a tenth of all steps)."""
    seed: int = 0
    """Seed of initial factors, batches, noise, times and augmentation."""
    augment: Literal["none", "light", "openpi"] = "none"
    """Image augmentation. Without --augment-variants the vision encoder then runs in every step."""
    augment_variants: int = 0
    """Augmented variants per frame whose vision tokens are computed once; 0 augments anew in every step."""
    vision_cache: bool = True
    """Compute frozen vision tokens once per frame (on disk, 1 MiB per image at full size)."""
    prune: bool = True
    """Leave out absent views and the padding of prompts; off computes openpi's shapes."""
    skip_dead: bool = True
    """Leave out what only the prefix's discarded output needs (pi0 and pi0.5)."""
    remat: Literal["auto", "off", "light", "full"] = "auto"
    """What the backward pass computes again to save memory; auto takes the fastest that fits."""
    bf16_frozen: bool = True
    """Keep frozen weights in the model's compute dtype, as openpi does; off keeps the stored one."""
    balance_tasks: bool = False
    """Every task (instruction) gives the same share of every batch."""
    holdout: float = 0.1
    """Share of episodes kept for held-out measurements."""
    save_every: int = 250
    """Steps between saved training states."""
    eval_every: int = 250
    """Steps between held-out measurements; 0 means only before and after."""
    action_frames: int = 16
    """Held-out frames on which actions are sampled and compared with the recorded ones; 0 for none."""
    memory_limit_gib: float = 0.0
    """Memory that a step may use per device, in GiB; 0 asks the device."""

    def settings(self) -> TrainSettings:
        """Validated settings."""
        from robosteer_training.finetune.settings import TrainSettings

        values = dataclasses.asdict(self)
        quick = values.pop("quick")
        values["steps"] = min(self.steps, QUICK_STEPS) if quick else self.steps
        return TrainSettings(**values)


@dataclasses.dataclass(frozen=True)
class OutputOptions:
    """What is written, and where curves go."""

    adapter: bool = False
    """Write a small adapter instead of a merged checkpoint (`robosteer checkpoint merge` applies it)."""
    log: Literal["none", "tensorboard"] = "none"
    """Curves for TensorBoard (needs the package tensorboardX)."""
    fsdp: int = 1
    """Devices that share one copy of weights and optimiser state; 1 copies them to each (faster if they fit)."""
    action_tokens: str | None = None
    """module:name of a FAST action tokenizer; only pi0-FAST models need one."""

    def steer_fields(self) -> dict[str, Any]:
        """Fields of `SteerSettings`."""
        return dataclasses.asdict(self)
