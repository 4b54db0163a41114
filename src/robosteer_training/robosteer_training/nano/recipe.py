"""The committed recipe of robosteer-nano, from an empty directory to a checkpoint in openpi's layout."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from robosteer_model.checkpoint import Checkpoint, check_free, save_checkpoint
from robosteer_model.transforms import Transforms
from robosteer_rig.rig import Rig, load_rig
from robosteer_training.files import json_digest
from robosteer_training.nano.batches import compute_norm_stats, prepare
from robosteer_training.nano.config import BASE_TASKS, OBJECTS, nano_config
from robosteer_training.nano.demonstrations import RANDOMISED_EVERY, load_demonstrations, make_demonstrations
from robosteer_training.nano.pretrain import PretrainSettings, pretrain, to_bfloat16
from robosteer_training.nano.vocabulary import train_tokenizer

ASSET_ID = "cell"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights.

    Attributes:
        episodes: scripted demonstrations.
        disturbance: pushes that the expert corrects, rad/s.
        seed: of the demonstrations.
        cycles: the learning rate rises and falls once in each.
    """

    episodes: int
    disturbance: float
    seed: int
    cycles: tuple[PretrainSettings, ...]

    def digest(self) -> str:
        """Of everything that decides the weights and can be written down, the tasks and what is looked at included."""
        told = [dataclasses.asdict(self), BASE_TASKS, OBJECTS, RANDOMISED_EVERY, nano_config().to_json()]
        return json_digest(told)

    def cycle_name(self, number: int, demonstrations: Path) -> str:
        """Directory of a cycle's state, named by everything that decides it: no other recipe goes on there.

        Args:
            number: of the cycle.
            demonstrations: directory of the shards, named by what decides them.
        """
        so_far = dataclasses.replace(self, cycles=self.cycles[: number + 1])
        return f"cycle_{number}_{json_digest([so_far.digest(), demonstrations.name])[:12]}"


def action_convention(rig: Rig) -> dict[str, object]:
    """What an action of the checkpoint means."""
    return {
        "convention": str(rig.action.convention),
        "unit_rad_per_s": rig.action.unit_rad_per_s,
        "rate_hz": rig.action.rate_hz,
    }


def make_nano(recipe: Recipe, rig_path: Path, work: Path, out: Path, jobs: int) -> None:
    """Demonstrate, train, save.

    Args:
        recipe: what to do.
        rig_path: rig file of the cell.
        work: keeps shards and training state.
        out: checkpoint directory.
        jobs: processes that make demonstrations.

    Raises:
        ModelError: `out` is taken; said before hours of work, not after.
    """
    check_free(out)
    rig = load_rig(rig_path)
    shards = make_demonstrations(
        work / "demonstrations",
        rig_path,
        BASE_TASKS,
        recipe.episodes,
        disturbance=recipe.disturbance,
        seed=recipe.seed,
        jobs=jobs,
    )
    demonstrations = load_demonstrations(shards)
    config, tokenizer = nano_config(), train_tokenizer()
    norm_stats = compute_norm_stats(demonstrations)
    arrays = prepare(demonstrations, config, Transforms(config, norm_stats, tokenizer))
    state = None
    for number, settings in enumerate(recipe.cycles):
        start = state["trainable"] if state else None
        place = work / recipe.cycle_name(number, shards[0].parent)
        state = pretrain(config, tokenizer, arrays, settings, place, start)
    if state is None:
        raise ValueError("a recipe needs at least one cycle")
    checkpoint = Checkpoint(
        params=to_bfloat16(state["average"]),
        config=config,
        norm_stats=norm_stats,
        asset_id=ASSET_ID,
        tokenizer=tokenizer,
        rig=rig.to_yaml(),
        action_convention=action_convention(rig),
        provenance={
            "command": "robosteer pretrain-nano",
            "recipe": dataclasses.asdict(recipe),
            "recipe_digest": recipe.digest(),
            "tasks": list(BASE_TASKS),
            "frames": len(demonstrations.state),
            "episodes_kept": int(demonstrations.episode[-1]) + 1,
        },
    )
    save_checkpoint(out, checkpoint)
