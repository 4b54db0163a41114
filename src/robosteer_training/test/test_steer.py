"""The whole chain on tiny recordings and a tiny model.

Regressions pinned: Ctrl-C in any stage leaves something that is taken for whole, or loses work; a resumed run differs
from an undisturbed one; results are overwritten without a word; a report that asks the network for something; other
settings, other models, other conventions accepted silently; a resumed run that refuses what changes no number, or takes
what was asked before for what is asked now; a traceback for an empty directory.
"""

import base64
import dataclasses
import html.parser
import io
import json
import re
import shutil

import jax
import numpy as np
import pytest
from rich.console import Console

from robosteer_model.checkpoint import load_checkpoint, save_checkpoint
from robosteer_model.params import flatten
from robosteer_model.policy import Policy
from robosteer_rig.errors import RobosteerError
from robosteer_training.commands import finetune as finetune_command
from robosteer_training.commands import heads as heads_command
from robosteer_training.commands.steer import summary_text
from robosteer_training.compatibility import check_convention, check_statistics
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.heads.cache import CacheSettings, fill_cache, load_cache
from robosteer_training.heads.select import KnnSettings
from robosteer_training.heads.selection import HeadSelection
from robosteer_training.steer import _open_work_directory, steer
from robosteer_training.steer_settings import SteerSettings

from .synthetic_bag import Script, bench_rig, write_episode

TRAINING = TrainSettings(
    steps=6, batch_size=4, peak_lr=3e-3, warmup_steps=0, holdout=0.3, eval_every=0, eval_draws=1, save_every=2
)


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    place = tmp_path_factory.mktemp("bags")
    for i in range(3):
        write_episode(place / f"episode_{i}", bench_rig(), Script(velocity=0.3 + 0.3 * i, seed=7 * i))
    return place


@pytest.fixture(scope="module")
def base_path(base, tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("base") / "tiny", base)


@pytest.fixture(scope="module")
def settings(bags, base_path, tmp_path_factory):
    return SteerSettings(
        base=base_path,
        out=tmp_path_factory.mktemp("runs") / "first",
        bag=bags,
        cache=CacheSettings(block=8),
        heads=KnnSettings(ks=(3, 5, 99), m=2, exclude_dead_heads=True),
        training=TRAINING,
    )


def quiet():
    return Console(file=io.StringIO(), width=200)


@pytest.fixture(scope="module")
def summary(settings):
    return steer(settings, console=quiet())


def test_the_results_are_complete(summary, settings, base):
    out = settings.out
    assert not out.with_name("first.partial").exists()
    assert json.loads((out / "steer.json").read_text()) == summary
    assert summary["dataset"]["episodes"] == 3
    assert summary["heads"]["m"] == 2
    assert summary["heads"]["k"] in (3, 5)
    assert summary["loss"]["heldout_after"] < summary["loss"]["heldout_before"]
    assert set(summary["seconds"]) == {"dataset", "activations", "heads", "finetune", "checkpoint"}
    assert "held out" in summary_text(summary)
    policy = load_checkpoint(summary["checkpoint"]["path"])
    assert policy.provenance["base_digest"] == summary["base"]["digest"]
    assert policy.provenance["instructions"] == ["pick up red cube"]
    assert policy.rig == bench_rig().to_yaml()
    moved = [p for p, x in flatten(policy.params).items() if not np.array_equal(x, flatten(base.params)[p])]
    assert moved
    assert not any(p.startswith("PaliGemma/img") or "kv_einsum" in p or "_1/" in p or "norm" in p for p in moved)


def test_the_checkpoint_acts(summary):
    policy = Policy(load_checkpoint(summary["checkpoint"]["path"]), num_steps=2)
    picture = np.zeros((28, 28, 3), np.uint8)
    observation = {
        "observation/exterior_image_1_left": picture,
        "observation/wrist_image_left": picture,
        "observation/joint_position": np.zeros(7),
        "observation/gripper_position": np.zeros(1),
        "prompt": "pick up red cube",
    }
    actions = policy.infer(observation)["actions"]
    assert actions.shape[1] == 8
    assert np.isfinite(actions).all()


def test_the_report_is_one_file_that_asks_for_nothing(summary, settings):
    text = (settings.out / "report.html").read_text()
    assert len(text) < 2_000_000
    outside = re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)[^"']*|url\((?!#|["']?data:)[^)]*\)|@import""", text)
    assert outside == []
    assert "<script" not in text
    parser = html.parser.HTMLParser()
    parser.feed(text)
    for needed in ("pick up red cube", "PaliGemma queries", "on held-out episodes", summary["checkpoint"]["digest"]):
        assert needed in text
    drawings = [base64.b64decode(found) for found in re.findall(r"data:image/svg\+xml;base64,([^\"]*)", text)]
    assert len(drawings) == 4
    for drawing in drawings:
        assert b"<svg" in drawing
        assert not re.search(rb"""xlink:href\s*=\s*"(?!#|data:)|href="http|<script|@import""", drawing)


def test_results_are_not_overwritten_without_a_word(summary, settings):
    with pytest.raises(RobosteerError, match="expected a free name"):
        steer(settings, console=quiet())


def test_overwriting_replaces_results_only(settings, tmp_path):
    (tmp_path / "thesis").mkdir()
    with pytest.raises(RobosteerError, match=r"--overwrite: found no steer\.json in .*thesis, expected results"):
        steer(dataclasses.replace(settings, out=tmp_path / "thesis"), overwrite=True, console=quiet())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_interrupted_in_every_stage_and_resumed_it_is_the_same_run(summary, settings, tmp_path, monkeypatch):
    """Ctrl-C after the first block, before the scores, in training, and before the export."""
    from robosteer_training import pipeline

    settings = dataclasses.replace(settings, out=tmp_path / "again")
    work = tmp_path / "again.partial"

    def stop(*_, **__):
        raise KeyboardInterrupt

    def stop_when(condition, original):
        def progress(done, *rest):
            original(done, *rest)
            if condition(done):
                raise KeyboardInterrupt

        return progress

    original = {name: getattr(pipeline, name) for name in ("fill_cache", "select_by_knn", "train", "export")}
    interruptions = {
        "fill_cache": lambda *a, progress, **k: original["fill_cache"](
            *a, progress=stop_when(lambda done: done >= 8, progress), **k
        ),
        "select_by_knn": stop,
        "train": lambda *a, watch, **k: original["train"](
            *a, watch=dataclasses.replace(watch, progress=stop_when(lambda done: done == 5, watch.progress)), **k
        ),
        "export": stop,
    }
    for name, replacement in interruptions.items():
        with monkeypatch.context() as patch:
            patch.setattr(pipeline, name, replacement)
            with pytest.raises(KeyboardInterrupt):
                steer(settings, resume=True, console=quiet())
        assert work.exists()
        assert not settings.out.exists()
        if name == "fill_cache":
            assert 0 < json.loads((work / "cache" / "cache.json").read_text())["done"] < summary["dataset"]["frames"]
            with pytest.raises(RobosteerError, match="give --resume"):
                steer(settings, console=quiet())
            other = dataclasses.replace(settings, training=dataclasses.replace(TRAINING, seed=9))
            with pytest.raises(RobosteerError, match=r"training\.seed: found 9, expected 0 as in the unfinished run"):
                steer(other, resume=True, console=quiet())
    again = steer(settings, resume=True, console=quiet())
    assert again["reused"] == ["dataset", "activations", "heads", "finetune"]
    for name in ("heads", "loss", "dataset"):
        assert again[name] == summary[name]
    assert again["checkpoint"]["digest"] == summary["checkpoint"]["digest"]


def test_a_dataset_without_usable_frames_is_one_line(base, frames, two_tasks):
    none = dataclasses.replace(frames, usable=np.zeros(len(frames), bool))
    with pytest.raises(RobosteerError, match="dataset: found no usable frames of 70, expected some"):
        check_statistics(two_tasks, base, none)


def test_what_changes_no_number_may_change_on_resuming(settings, tmp_path):
    """More saving, another way to fit into memory: after a run that did not fit, that is what one wants to change."""
    first = dataclasses.replace(settings, out=tmp_path / "run")
    _open_work_directory(first, resume=False, overwrite=False)
    training = dataclasses.replace(TRAINING, remat="full", memory_limit_gib=3.0, save_every=1)
    _open_work_directory(dataclasses.replace(first, training=training), resume=True, overwrite=False)
    for changes, told in (
        ({"training": dataclasses.replace(TRAINING, peak_lr=1.0)}, "training.peak_lr: found 1.0, expected 0.003 as in"),
        ({"rank": 8}, "rank: found 8, expected None as in"),
        ({"heads": dataclasses.replace(first.heads, m=3)}, "heads.m: found 3, expected 2 as in"),
    ):
        with pytest.raises(RobosteerError, match=f"--resume: {re.escape(told)}"):
            _open_work_directory(dataclasses.replace(first, **changes), resume=True, overwrite=False)


def test_commands_take_the_parts_of_a_run(summary, settings, base_path, tmp_path, capsys):
    dataset, cache, heads = settings.out / "dataset", tmp_path / "cache", tmp_path / "heads.json"
    arguments = ["--dataset", str(dataset), "--base", str(base_path), "--out", str(cache), "--json"]
    assert heads_command.main(["cache", *arguments, "--positions", "suffix.first", "prefix.last"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == summary["dataset"]["frames"]
    assert told["mib"] == pytest.approx(told["rows"] * (3 * 4 * 8 + 8) * 4 / 2**20)
    options = ["--k", "3", "5", "--m", "2", "--exclude-dead-heads"]
    assert heads_command.main(["select", "--cache", str(cache), "--out", str(heads), *options]) == 0
    assert [list(h) for h in HeadSelection.load(heads).heads] == summary["heads"]["chosen"]
    assert "of 12 heads, k =" in capsys.readouterr().out
    options = [
        "--dataset",
        str(dataset),
        "--base",
        str(base_path),
        "--heads",
        str(heads),
        "--out",
        str(tmp_path / "ft"),
    ]
    options += ["--steps", "2", "--batch-size", "4", "--recipe", "q-only", "--json"]
    assert finetune_command.main(options) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["recipe"]["trainable_parameters"] == 2 * 16 * (32 + 8)


def test_what_belongs_to_another_model_is_refused(summary, settings, base, base_path, tmp_path):
    with pytest.raises(RobosteerError, match="made with checkpoint"):
        load_cache(settings.out / "cache", checkpoint_digest="0" * 64)
    selection = HeadSelection.load(settings.out / "heads.json")
    with pytest.raises(RobosteerError, match="select the heads on this checkpoint"):
        selection.check_model(base.config, "0" * 64)
    with pytest.raises(RobosteerError, match=r"expected 'robosteer\.head_selection/1'"):
        HeadSelection.from_json({"schema": "x"})
    assert HeadSelection.from_json(json.loads(json.dumps(selection.to_json()))).heads == selection.heads
    rig = bench_rig()
    slower = dataclasses.replace(rig, action=dataclasses.replace(rig.action, unit_rad_per_s=1.0))
    dataset = dataclasses.make_dataclass("Data", ["rig"])(rig)
    with pytest.raises(RobosteerError, match=r"action.unit_rad_per_s: found 3.*expected 1"):
        check_convention(dataset, dataclasses.replace(base, rig=slower.to_yaml()))


def test_missing_and_empty_recordings_are_one_line(settings, tmp_path):
    with pytest.raises(RobosteerError, match="--bag: found nothing"):
        dataclasses.replace(settings, bag=tmp_path / "none")
    (tmp_path / "empty").mkdir()
    empty = dataclasses.replace(settings, bag=tmp_path / "empty", out=tmp_path / "out")
    for _ in range(2):  # a run that failed at once does not block the next one
        with pytest.raises(RobosteerError, match="empty") as caught:
            steer(empty, console=quiet())
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_cache_of_other_settings_is_made_anew(base, frames, tmp_path):
    def fill(**changes):
        calls = []
        digests = {"checkpoint_digest": "c", "dataset_digest": "d"} | changes
        settings = CacheSettings(block=32, draws=2)
        cache = fill_cache(
            tmp_path / "cache",
            base.params,
            base.config,
            frames,
            settings,
            progress=lambda *a: calls.append(a),
            **digests,
        )
        return cache, calls

    cache, calls = fill()
    assert calls == [(32, 70), (64, 70), (70, 70)]
    first = np.array(cache.arrays["suffix.first"])
    assert first.shape == (3, 70, 4, 8)
    assert fill()[1] == []
    assert len(fill(dataset_digest="other")[1]) == 3
    shutil.rmtree(tmp_path / "cache")
    np.testing.assert_array_equal(fill()[0].arrays["suffix.first"], first)
    assert jax.default_backend() in cache.meta["backend"]
