"""What `robosteer steer` is asked for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from robosteer_rig.errors import RobosteerError
from robosteer_training.finetune.recipes import Recipe, Stream, customised, recipe_by_name
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.finetune.tracking import Tracker
from robosteer_training.heads.cache import CacheSettings
from robosteer_training.heads.select import KnnSettings
from robosteer_training.heads.selection import HeadSelection

_WANTED = {
    "bag": "an episode or a directory of episodes",
    "dataset": "a directory that `robosteer convert` made",
    "base": "a checkpoint directory",
    "heads": "a file of `robosteer heads select`",
}


@dataclasses.dataclass(frozen=True)
class SteerSettings:
    """What to steer, on what, how.

    Attributes:
        base: checkpoint to adapt.
        out: directory of the results.
        bag: one recorded episode or a directory of them; None when `dataset` is given.
        dataset: a converted dataset.
        rig: rig file; None takes the recorded one.
        instruction: replaces the recorded instruction.
        recipe: name of a recipe.
        rank: of its low-rank factors; None takes the recipe's.
        alpha: numerator of the attention LoRA's scale; None scales by one.
        streams: experts whose heads and FFNs are adapted; None takes the recipe's.
        cache: how activations are taken.
        heads: how heads are chosen.
        training: how the adapter is trained.
        select: select heads when no `selections` are given; without either, the recipe must need none.
        selections: head selection files; of several, the union of their heads is adapted.
        disjoint: several selections, one per task in the order in which the data has them; no two tasks share a head.
        exclude_dead: leave heads out that receive no gradient.
        adapter: write a small adapter instead of a merged checkpoint.
        log: where curves go.
        fsdp: devices that share one copy of weights and state.
        action_tokens: "module:name" of a FAST action tokenizer, for pi0-FAST models.
        jobs: worker processes of the conversion.
        skip_bad: leave damaged episodes out.
    """

    base: Path
    out: Path
    bag: Path | None = None
    dataset: Path | None = None
    rig: Path | None = None
    instruction: str | None = None
    recipe: str = "steering"
    rank: int | None = None
    alpha: float | None = None
    streams: tuple[Stream, ...] | None = None
    cache: CacheSettings = dataclasses.field(default_factory=CacheSettings)
    heads: KnnSettings = dataclasses.field(default_factory=KnnSettings)
    training: TrainSettings = dataclasses.field(default_factory=TrainSettings)
    select: bool = True
    selections: tuple[Path, ...] = ()
    disjoint: bool = False
    exclude_dead: bool = False
    adapter: bool = False
    log: Tracker = "none"
    fsdp: int = 1
    action_tokens: str | None = None
    jobs: int = 1
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if (self.bag is None) == (self.dataset is None):
            found = "neither" if self.bag is None else "both"
            raise RobosteerError(f"steer: found {found} of --bag and --dataset, expected one of them")
        places = [("bag", self.bag), ("dataset", self.dataset), ("base", self.base)]
        for name, path in [*places, *(("heads", path) for path in self.selections)]:
            if path is not None and not path.exists():
                raise RobosteerError(f"--{name}: found nothing at {path}, expected {_WANTED[name]}; check the path")
        for path in self.selections:
            HeadSelection.load(path)
        if self.disjoint and len(self.selections) < 2:
            raise RobosteerError(
                "--disjoint: found fewer than two selections, expected one per task; give several --heads"
            )
        self.chosen_recipe()
        if self.heads.position not in self.cache.positions:
            raise RobosteerError(f"position: {self.heads.position!r} is not in the cache {self.cache.positions}")

    def chosen_recipe(self) -> Recipe:
        """The recipe with its numbers."""
        recipe = recipe_by_name(self.recipe)
        return customised(recipe, rank=self.rank, alpha=self.alpha, streams=self.streams)

    def to_json(self) -> dict[str, Any]:
        """Everything that decides the result."""
        fields = dataclasses.asdict(self) | {"training": self.training.identity()}
        data = json.loads(json.dumps(fields, default=lambda value: str(value.absolute())))
        return {name: value for name, value in data.items() if name not in ("out", "jobs", "log")}


def first_change(before: dict[str, Any], now: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """The first setting of `now` that `before` has otherwise: its dotted name and both values."""
    for name, value in now.items():
        old = before.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            if inside := first_change(old, value):
                return f"{name}.{inside[0]}", *inside[1:]
        elif old != value:
            return name, old, value
    return None
