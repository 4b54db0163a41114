"""Bad input, full disks, and what `robosteer finetune --explain` says.

Regressions pinned: a full disk that takes the last good state or checkpoint with it, leaves pieces behind or reports to
a closed event loop; statistics of another robot that are taken silently and blow the loss up; a missing package found
after an hour; counts that drift from the paper's.
"""

import contextlib
import dataclasses
import json
import resource
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from robosteer_model.checkpoint import load_checkpoint, save_checkpoint
from robosteer_model.digest import params_digest
from robosteer_model.errors import ModelError
from robosteer_model.norm_stats import NormStats
from robosteer_rig.errors import RobosteerError
from robosteer_training.commands import finetune as finetune_command
from robosteer_training.compatibility import check_convention, check_statistics
from robosteer_training.finetune.recipes import RECIPES, customised, recipe_by_name
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.finetune.state import History, TrainState, load_state, save_state
from robosteer_training.finetune.tracking import check_tracker, open_curves

from .synthetic_bag import bench_rig


@contextlib.contextmanager
def files_of_at_most(size):
    """A disk that is full after so many bytes of any file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_last_good_state(tmp_path):
    def state(value):
        return TrainState(np.int32(value), {"x": np.full((100, 100), value, np.float32)}, {})

    file = tmp_path / "state.npz"
    save_state(file, state(1), History(), "run")
    with files_of_at_most(10_000), pytest.raises(RobosteerError, match="free some space"):
        save_state(file, state(2), History(), "run")
    found, _ = load_state(file, state(0), "run")
    assert int(found.step) == found.adapter["x"][0, 0] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_leaves_the_last_good_checkpoint(base, tmp_path):
    place = save_checkpoint(tmp_path / "checkpoint", base)
    changed = dataclasses.replace(base, provenance={"which": "second"})
    with files_of_at_most(5_000), pytest.raises(ModelError, match="of that name is intact") as caught:
        save_checkpoint(place, changed, overwrite=True)
    assert "\n" not in str(caught.value)
    found = load_checkpoint(place)
    assert found.provenance == base.provenance
    assert params_digest(found.params) == params_digest(base.params)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def _data(**changes):
    values = {"rig": bench_rig(), "rate_hz": 15.0, "state": np.zeros((3, 8)), "actions": np.zeros((3, 8))}
    return SimpleNamespace(**(values | changes))


def test_actions_that_mean_something_else_are_refused(base):
    unit = {"convention": "normalised_joint_velocity", "unit_rad_per_s": 1.0}
    with pytest.raises(RobosteerError, match=r"unit_rad_per_s: found 3.0, expected 1.0"):
        check_convention(_data(), dataclasses.replace(base, action_convention=unit))
    with pytest.raises(RobosteerError, match=r"action.convention: found .*, expected joint_position"):
        check_convention(_data(), dataclasses.replace(base, action_convention={"convention": "joint_position"}))
    told = check_convention(_data(rate_hz=6.0), dataclasses.replace(base, action_convention={"rate_hz": 15.0}))
    assert "6 frames per second" in told[0]
    assert check_convention(_data(), base) == []


def test_statistics_that_are_missing_or_of_another_robot_are_refused(base, frames):
    with pytest.raises(RobosteerError, match=r"--base: found no statistics, expected assets/"):
        check_statistics(_data(), dataclasses.replace(base, norm_stats=None))
    few = NormStats(np.zeros(6), np.ones(6), -np.ones(6), np.ones(6))
    with pytest.raises(RobosteerError, match="actions: found 6 dimensions, expected at least 8"):
        check_statistics(_data(), dataclasses.replace(base, norm_stats=dict(base.norm_stats) | {"actions": few}))
    check_statistics(_data(), base, frames)
    blown = frames.actions.copy()
    blown[:, 3] *= 3200
    with pytest.raises(RobosteerError, match=r"norm_stats: actions\[3\]: found normalised values up to 3"):
        check_statistics(_data(), base, dataclasses.replace(frames, actions=blown))


HEADS_20 = 20 * 16 * (2048 + 256)  # Q or O of 20 heads at rank 16
FFN_16 = 16 * 995_328
COUNTS = {
    "steering": {"pi0": 20_647_968, "pi05": 19_565_600, "pi0_fast": 2 * HEADS_20 + FFN_16},
    "paper-text": dict.fromkeys(("pi0", "pi05", "pi0_fast"), (HEADS_20 + FFN_16) // 2),
    "q-only": dict.fromkeys(("pi0", "pi05", "pi0_fast"), HEADS_20),
    "q+mlp": dict.fromkeys(("pi0", "pi05", "pi0_fast"), HEADS_20 + FFN_16),
    "no-heads": {"pi0": 20_647_968 - 2 * HEADS_20, "pi05": 19_565_600 - 2 * HEADS_20, "pi0_fast": FFN_16},
    "lora": {"pi0": 468_039_440, "pi05": 466_957_072, "pi0_fast": 442_672_880},
    "lora-frozen-vision": {"pi0": 53_235_744, "pi05": 52_153_376, "pi0_fast": 27_869_184},
    "steering-full": {"pi05": 2_361_799_712},
    "full": {"pi0": 3_238_048_528, "pi05": 3_353_433_872, "pi0_fast": 2_923_335_408},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_explain_counts_without_weights(recipe, capsys):
    assert set(COUNTS) == set(RECIPES)
    for model, count in COUNTS[recipe].items():
        assert finetune_command.main(["--explain", "--json", "--model", model, "--recipe", recipe]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["trainable_parameters"] == count
        assert told["trainable_mib"] == pytest.approx(count * 4 / 2**20, abs=1e-3)
        assert sum(row["trainable"] for row in told["table"]) == count


def test_ranks_streams_and_heads_can_be_chosen(capsys):
    def count(*options):
        assert finetune_command.main(["--explain", "--json", *options]) == 0
        return json.loads(capsys.readouterr().out)["trainable_parameters"]

    assert count("--recipe", "q-only", "--m", "144") == 144 * 16 * (2048 + 256)
    assert count("--recipe", "q-only", "--rank", "4", "--alpha", "8") == HEADS_20 // 4
    both = count("--recipe", "q-only", "--streams", "paligemma", "expert")
    assert both == HEADS_20 + 20 * 16 * (1024 + 256)
    assert customised(recipe_by_name("q-only"), rank=4, alpha=8.0).scale == 2.0
    with pytest.raises(RobosteerError, match="--rank: found 4 for recipe 'lora'"):
        customised(recipe_by_name("lora"), rank=4)
    with pytest.raises(RobosteerError, match="pi0_fast has one stream"):
        count("--model", "pi0_fast", "--streams", "expert")


def test_settings_that_make_no_sense_are_one_line():
    for changes, expected in (
        ({"micro_batch": 5}, "micro_batch: found 5, expected a divisor of the batch size 32"),
        ({"augment_variants": 2}, "give --augment"),
        ({"flow_draws": 0}, "flow_draws: found 0, expected at least 1"),
    ):
        with pytest.raises(RobosteerError, match=expected):
            TrainSettings(**changes)


def _events(file):
    """Records of an event file: length, its checksum, data, its checksum."""
    data = file.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def test_curves_are_written_for_tensorboard(tmp_path, monkeypatch):
    curves = open_curves("tensorboard", tmp_path / "curves")
    for step in (1, 2):
        curves.write(step, {"loss": 0.5 / step})
    curves.close()
    (file,) = (tmp_path / "curves").iterdir()
    points = [(e.step, v.tag, v.simple_value) for e in _events(file) for v in e.summary.value]
    assert points == [(1, "loss", 0.5), (2, "loss", 0.25)]
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(RobosteerError, match="uv pip install tensorboardX"):
        check_tracker("tensorboard")
