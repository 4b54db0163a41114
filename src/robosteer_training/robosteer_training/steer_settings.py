"""What `robosteer steer` is asked for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from robosteer_rig.errors import RobosteerError
from robosteer_training.finetune.recipes import recipe_by_name
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.heads.cache import CacheSettings
from robosteer_training.heads.select import KnnSettings


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
        cache: how activations are taken.
        heads: how heads are chosen.
        training: how the adapter is trained.
        select: select heads when no `selection` is given; without either, the recipe must need none.
        selection: a head selection file.
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
    cache: CacheSettings = dataclasses.field(default_factory=CacheSettings)
    heads: KnnSettings = dataclasses.field(default_factory=KnnSettings)
    training: TrainSettings = dataclasses.field(default_factory=TrainSettings)
    select: bool = True
    selection: Path | None = None
    jobs: int = 1
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if (self.bag is None) == (self.dataset is None):
            raise RobosteerError("steer: found both or neither of --bag and --dataset, expected one of them")
        for name in ("bag", "dataset", "base", "selection"):
            path = getattr(self, name)
            if path is not None and not path.exists():
                raise RobosteerError(f"--{name}: found nothing at {path}, expected something; check the path")
        recipe_by_name(self.recipe)
        if self.heads.position not in self.cache.positions:
            raise RobosteerError(f"position: {self.heads.position!r} is not in the cache {self.cache.positions}")

    def to_json(self) -> dict[str, Any]:
        """Everything that decides the result."""
        data = json.loads(json.dumps(dataclasses.asdict(self), default=lambda value: str(value.absolute())))
        return {name: value for name, value in data.items() if name not in ("out", "jobs")}
