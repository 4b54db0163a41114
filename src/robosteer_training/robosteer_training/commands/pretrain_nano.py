"""Pretrain robosteer-nano, the small pi0.5-shaped base policy of the demo, from nothing on scripted demonstrations."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robosteer_training.nano.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Arguments of `robosteer pretrain-nano`."""

    out: Path
    """Checkpoint directory to write."""
    rig: Path
    """Rig file of the simulated cell."""
    work: Path = Path("runs/nano")
    """Where demonstrations and the training state are kept; an interrupted run goes on from there."""
    episodes: int = 2000
    """Scripted demonstrations, over all base tasks and grid cells; in every fourth, light, colours and cameras are
    random."""
    disturbance: float = 0.03
    """Pushes on the joints that the expert corrects, rad/s (standard deviation)."""
    vision_steps: int = 5000
    """Steps in which the image encoder learns where things are, alone, before the first cycle."""
    steps: tuple[int, ...] = (4000, 2000, 3000)
    """Optimiser steps of each cycle of the learning rate."""
    batch_size: int = 64
    """Frames per step."""
    draws: int = 4
    """Flow draws (noise, time) per frame."""
    peak_lr: tuple[float, ...] = (1e-3, 8e-4, 6e-4)
    """Learning rate after warm-up, of each cycle."""
    seed: int = 0
    """Seed of weights, batches and noise."""
    demonstration_seed: int = 1
    """Seed of the demonstrations."""
    jobs: int = 2
    """Processes that make demonstrations."""

    def recipe(self) -> Recipe:
        """What decides the weights.

        Raises:
            RobosteerError: not one learning rate for each cycle.
        """
        from robosteer_rig.errors import RobosteerError
        from robosteer_training.nano.pretrain import PretrainSettings
        from robosteer_training.nano.recipe import Recipe

        found, expected = len(self.peak_lr), len(self.steps)
        if found != expected:
            raise RobosteerError(f"--peak-lr: found {found} values, expected {expected}, one for each of --steps")
        cycles = tuple(
            PretrainSettings(
                vision_steps=self.vision_steps,
                steps=steps,
                batch_size=self.batch_size,
                draws=self.draws,
                peak_lr=peak_lr,
                seed=self.seed + 10 * number,
            )
            for number, (steps, peak_lr) in enumerate(zip(self.steps, self.peak_lr, strict=True))
        )
        return Recipe(self.episodes, self.disturbance, self.demonstration_seed, cycles)


def main(argv: list[str]) -> int:
    """Entry point of `robosteer pretrain-nano`."""
    import tyro

    arguments = tyro.cli(Arguments, args=argv, prog="robosteer pretrain-nano")
    from robosteer_training.interrupt import finished
    from robosteer_training.nano.recipe import make_nano

    a = arguments
    told = finished(
        lambda: make_nano(a.recipe(), a.rig, a.work, a.out, a.jobs), "pretrain-nano", "the same command goes on"
    )
    if isinstance(told, int):
        return told
    print(f"written to {arguments.out}")
    return 0
