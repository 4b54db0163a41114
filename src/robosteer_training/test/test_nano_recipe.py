"""Pins: weights that do not belong to the recipe beside them, a recipe that cannot be repeated, and demonstrations that
are made again in every run.
"""

import dataclasses
import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from robosteer_model.checkpoint import load_checkpoint
from robosteer_model.errors import ModelError
from robosteer_model.params import flatten
from robosteer_rig.errors import RobosteerError
from robosteer_training.commands.pretrain_nano import Arguments, main
from robosteer_training.nano.config import BASE_TASKS, OBJECTS, nano_config
from robosteer_training.nano.demonstrations import load_demonstrations

from .test_evaluation import NANO, RIG


def test_the_weights_that_come_with_us_are_those_of_the_commands_defaults(tmp_path):
    told = json.loads((NANO / "robosteer.json").read_text())["provenance"]
    recipe = Arguments(tmp_path, RIG).recipe()
    assert told["recipe_digest"] == recipe.digest()
    assert told["tasks"] == list(BASE_TASKS)
    assert load_checkpoint(NANO).config == nano_config()


def test_another_recipe_has_another_digest(tmp_path):
    digests = {Arguments(tmp_path, RIG, **change).recipe().digest() for change in ({}, {"seed": 1}, {"episodes": 3})}
    assert len(digests) == 3
    with pytest.raises(RobosteerError, match="--peak-lr: found 3 values, expected 2"):
        Arguments(tmp_path, RIG, steps=(1, 2)).recipe()


def test_the_state_of_another_recipe_is_not_gone_on_from():
    recipe = Arguments(Path("out"), RIG).recipe()
    cycles = [dataclasses.replace(cycle, peak_lr=1e-5) for cycle in recipe.cycles[1:]]
    other_seed = dataclasses.replace(recipe, seed=2)
    later_lr = dataclasses.replace(recipe, cycles=(recipe.cycles[0], *cycles))
    shards = Path("demonstrations")
    names = [recipe.cycle_name(number, shards) for number in range(3)]
    assert len({*names, recipe.cycle_name(0, Path("others")), other_seed.cycle_name(0, shards)}) == 5
    # What they have in common is not trained twice: a longer recipe goes on from a shorter one's end.
    assert later_lr.cycle_name(0, shards) == names[0]
    assert later_lr.cycle_name(1, shards) != names[1]


def test_a_taken_place_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(ModelError, match="expected a free name"):
        main([f"--out={tmp_path}", f"--rig={RIG}", f"--work={tmp_path / 'work'}"])
    assert not (tmp_path / "work").exists()


def _make(work, out):
    sizes = {"episodes": len(BASE_TASKS), "vision-steps": 2, "batch-size": 4, "jobs": 2}
    words = [f"--{name}={value}" for name, value in sizes.items()]
    return main(
        [f"--out={out}", f"--rig={RIG}", f"--work={work}", *words, "--steps", "2", "2", "--peak-lr", "1e-3", "1e-4"]
    )


@pytest.mark.slow
def test_a_shortened_recipe_gives_the_same_weights_again(tmp_path):
    assert _make(tmp_path / "work", tmp_path / "first") == 0
    shards = sorted((tmp_path / "work" / "demonstrations").rglob("*.npz"))
    shown = load_demonstrations(shards)
    assert set(shown.tasks) <= set(BASE_TASKS)
    assert len(shown.tasks) >= len(BASE_TASKS) - 1  # an expert may fail once, and is left out
    assert shown.objects.shape == (len(shown.state), len(OBJECTS), 3)
    # Everything else is done again; the demonstrations are found.
    made = [os.stat(shard).st_mtime_ns for shard in shards]
    for cycle in (tmp_path / "work").glob("cycle_*"):
        cycle.rename(tmp_path / f"old_{cycle.name}")
    assert _make(tmp_path / "work", tmp_path / "second") == 0
    assert [os.stat(shard).st_mtime_ns for shard in shards] == made
    first, second = (flatten(load_checkpoint(tmp_path / name).params) for name in ("first", "second"))
    assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(np.asarray(a), np.asarray(b)), first, second))
    told = json.loads((tmp_path / "first" / "robosteer.json").read_text())["provenance"]
    assert told["recipe"]["cycles"][1]["peak_lr"] == 1e-4
