"""`robosteer heads` from a dataset of two tasks to figures, film and page, on tiny models of the whole family.

Regressions pinned: two tasks pooled without a word; a cache, dataset or selection of something else accepted; overlays
on the wrong patches; a page that asks the network for something; a film that cannot be played; pi0-FAST left out of any
of it; Rerun needed although nobody asked.
"""

import base64
import builtins
import dataclasses
import io
import json
import re
import sys

import av
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from robosteer_model import pi0, pi0_fast
from robosteer_model.checkpoint import load_checkpoint, save_checkpoint
from robosteer_model.taps import Tap
from robosteer_rig.errors import RobosteerError
from robosteer_rig.heat import overlay
from robosteer_training.commands import heads as command
from robosteer_training.frames import model_frames, observation_of
from robosteer_training.heads.attention import attention_maps
from robosteer_training.heads.cache import load_cache
from robosteer_training.heads.capture import prompt_only
from robosteer_training.heads.selection import HeadSelection

from .conftest import TASKS, CoarseTokens
from .tiny_model import random_params, tiny_config

HEADS = [(0, 1), (2, 3), (2, 0)]


@pytest.fixture(scope="module")
def place(two_tasks, base, fast_base, tmp_path_factory):
    """Checkpoints of the family and a cache of each."""
    root = tmp_path_factory.mktemp("heads")
    save_checkpoint(root / "pi05", base)
    save_checkpoint(root / "fast", fast_base)
    pi0_config = tiny_config(model_type="pi0", discrete_state_input=False)
    save_checkpoint(root / "pi0", dataclasses.replace(base, params=random_params(pi0_config), config=pi0_config))
    for name in ("pi05", "fast", "pi0"):
        positions = ["suffix.first", "prefix.last"]
        run(
            "cache",
            "--dataset",
            two_tasks.path,
            "--base",
            root / name,
            "--out",
            root / f"c_{name}",
            "--positions",
            *positions,
        )
    return root


def run(*arguments):
    assert command.main([str(a) for a in arguments]) == 0


def told(capsys, *arguments):
    capsys.readouterr()
    run(*arguments, "--json")
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def selection(place):
    run("select", "--cache", place / "c_pi05", "--out", place / "joint.json", "--joint", "--k", 3, 5, "--m", 2)
    return place / "joint.json"


def test_statistics_of_a_cache(place, capsys):
    found = told(capsys, "cache", "--out", place / "c_fast", "--stats")
    assert found["rows"] == sum(found["tasks"].values()) == load_cache(place / "c_fast").rows
    assert list(found["tasks"]) == list(TASKS)
    with pytest.raises(RobosteerError, match="expected both, to run the model"):
        run("cache", "--out", place / "c_fast")
    assert found["mib"] == pytest.approx(found["rows"] * (3 * 4 * 8 + 8) * 4 / 2**20)


@pytest.mark.parametrize("model", ["pi0", "pi05", "fast"])
@pytest.mark.parametrize("stream", ["suffix", "prefix"])
def test_every_model_and_stream_selects_by_reading(place, model, stream, tmp_path, capsys):
    options = ["--cache", place / f"c_{model}", "--joint", "--k", 3, 5, "--stream", stream]
    for method in ("knn", "worst", "random", "classify", "all"):
        m = [] if method == "all" else ["--m", 3]
        found = told(capsys, "select", *options, *m, "--method", method, "--out", tmp_path / f"{method}.json")
        assert found["method"] == method
        assert found["m"] == (12 if method == "all" else 3)
        assert found["settings"]["position"] == {"suffix": "suffix.first", "prefix": "prefix.last"}[stream]
        assert found["provenance"]["tasks"] == sorted(TASKS)
        again = HeadSelection.load(tmp_path / f"{method}.json")
        assert again.to_json() == found
    assert told(capsys, "cv", "--cache", place / f"c_{model}", "--k", 3)["positions"][1]["cv"] > 0


def test_tasks_are_joined_or_kept_apart_on_purpose(place, two_tasks, tmp_path, capsys):
    options = ["select", "--cache", place / "c_pi05", "--out", tmp_path / "h.json", "--k", 3, "--m", 3]
    with pytest.raises(RobosteerError, match=r"tasks: found 2 .* expected --joint"):
        run(*options)
    apart = told(capsys, *options, "--per-task", "--disjoint")
    heads = [{tuple(h) for h in apart[task]["heads"]} for task in TASKS]
    assert heads[0].isdisjoint(heads[1])
    assert {p.name for p in tmp_path.iterdir()} == {"h.pick-up-red-cube.json", "h.push-the-button.json"}
    own = HeadSelection.load(tmp_path / "h.push-the-button.json")
    assert own.provenance["episodes"] == 3
    words = ["--cache", place / "c_pi05", "--selection", tmp_path / "h.push-the-button.json", "--permutations", 1]
    np.testing.assert_allclose(told(capsys, "null", *words)["scores"], own.scores)
    both = ["--selections", *sorted(tmp_path.iterdir())]
    found = told(capsys, "overlap", *both, "--out", tmp_path / "overlap.json")
    assert found["jaccard"] == [[1, 0], [0, 1]]
    drawn = ["--dataset", two_tasks.path, "--analyses", tmp_path / "overlap.json", "--out", tmp_path / "p"]
    run("plot", *both, *drawn)
    assert {p.name for p in (tmp_path / "p").iterdir()} == {"maps.svg", "distributions.svg", "overlap.svg"}
    assert (tmp_path / "p" / "maps.svg").read_text().count("<image") >= 2  # the tasks' pictures
    for wrong, words in (
        (["--per-task", "--joint"], "expected one of them"),
        (["--disjoint"], "add --per-task"),
        (["--per-task", "--method", "classify"], "give --positive"),
    ):
        with pytest.raises(RobosteerError, match=words):
            run(*options, *wrong)


@pytest.mark.parametrize("method", ["cma", "reinforce"])
def test_methods_that_run_the_model(place, two_tasks, method, tmp_path, capsys):
    out = tmp_path / "h.json"
    options = ["select", "--cache", place / "c_pi05", "--joint", "--m", 2, "--method", method, "--out", out]
    quick = ["--frames", 6, "--batch", 3, "--draws", 1, "--steps", 2, "--masks", 3, "--num-steps", 1]
    with pytest.raises(RobosteerError, match="expected both, to run the model"):
        run(*options)
    data = ["--dataset", two_tasks.path]
    found = told(capsys, *options, *quick, *data, "--base", place / "pi05")
    assert found["k"] is None
    assert found["details"]
    assert [p.name for p in tmp_path.iterdir()] == ["h.json"]
    with pytest.raises(RobosteerError, match=r"checkpoint: found .* expected the one of the cache"):
        run(*options, *quick, *data, "--base", place / "pi0")


def test_fast_runs_with_an_action_tokenizer_only(place, two_tasks, tmp_path, capsys, monkeypatch):
    options = ["select", "--cache", place / "c_fast", "--joint", "--m", 2, "--method", "reinforce"]
    options += ["--out", tmp_path / "h.json", "--dataset", two_tasks.path, "--base", place / "fast"]
    options += ["--frames", 4, "--batch", 2, "--steps", 2, "--masks", 2]
    with pytest.raises(RobosteerError, match="found no action tokens"):
        run(*options)
    with pytest.raises(RobosteerError, match="cannot find 'nowhere:at_all'"):
        run(*options, "--action-tokens", "nowhere:at_all")
    with pytest.raises(RobosteerError, match="without encode and decode"):
        run(*options, "--action-tokens", "builtins:dict")
    monkeypatch.setattr(builtins, "CoarseTokens", CoarseTokens, raising=False)
    assert told(capsys, *options, "--action-tokens", "builtins:CoarseTokens")["provenance"]["model_type"] == "pi0_fast"


def test_analyses_and_their_figures(place, selection, tmp_path, capsys):
    reads = ["--cache", place / "c_pi05", "--selection", selection]
    scores = ["--cache", place / "c_pi05", "--k", 3]
    runs = {
        "bootstrap": [*reads, "--samples", 20],
        "null": [*reads, "--permutations", 9, "--shuffle", "swap"],
        "redundancy": reads,
        "stability": [*scores, "--ms", 1, 3],
        "classify": [*scores, "--m", 2, "--selections", selection, "--positive", TASKS[1]],
    }
    for kind, options in runs.items():
        found = told(capsys, kind, *options, "--out", tmp_path / f"{kind}.json")
        assert json.loads((tmp_path / f"{kind}.json").read_text()) == found
    groups = {row["group"]: row for row in json.loads((tmp_path / "classify.json").read_text())["groups"]}
    assert set(groups) == {"top", "worst", "all", "random", "joint"}
    analyses = [tmp_path / f"{kind}.json" for kind in runs]
    run("plot", "--selections", selection, "--analyses", *analyses, "--out", tmp_path / "p")
    drawn = {p.stem: p.read_bytes() for p in (tmp_path / "p").iterdir()}
    assert set(drawn) == {*runs, "maps", "distributions"}
    assert all(b"<svg" in d and b"<script" not in d for d in drawn.values())
    run("plot", "--selections", selection, "--analyses", *analyses, "--out", tmp_path / "q")
    assert drawn == {p.stem: p.read_bytes() for p in (tmp_path / "q").iterdir()}  # the same bytes every time
    with pytest.raises(RobosteerError, match="found no --selections"):
        run("plot", "--analyses", tmp_path / "null.json", "--out", tmp_path / "r")
    with pytest.raises(RobosteerError, match=r"expected 'robosteer\.head_analysis/1'"):
        run("plot", "--analyses", selection, "--out", tmp_path / "r")
    with pytest.raises(RobosteerError, match="nothing to draw"):
        run("plot", "--out", tmp_path / "r")


def test_what_belongs_to_another_model_or_dataset_is_refused(place, selection, two_tasks, tmp_path):
    with pytest.raises(RobosteerError, match="select the heads on this checkpoint"):
        run("null", "--cache", place / "c_pi0", "--selection", selection)
    with pytest.raises(RobosteerError, match="select the heads on this checkpoint"):
        run(
            "attention",
            "--dataset",
            two_tasks.path,
            "--base",
            place / "fast",
            "--selection",
            selection,
            "--out",
            tmp_path,
        )
    with pytest.raises(RobosteerError, match="differs from that of"):
        run("cv", "--cache", place / "c_pi0", place / "c_pi05")
    with pytest.raises(RobosteerError, match=r"expected suffix\.last"):
        run("select", "--cache", place / "c_pi05", "--joint", "--token", "last", "--out", tmp_path / "h.json")
    with pytest.raises(RobosteerError, match=r"k: found \[0\], expected positive"):
        run("null", "--cache", place / "c_pi05", "--selection", selection, "--k", 0)
    with pytest.raises(RobosteerError, match="--episode: found 9, expected 0"):
        run(
            *("attention", "--dataset", two_tasks.path, "--base", place / "pi05", "--selection", selection),
            *("--out", tmp_path, "--episode", 9),
        )
    with pytest.raises(RobosteerError, match="frame: found 99999"):
        run(
            *("gallery", "--cache", place / "c_pi05", "--selection", selection, "--dataset", two_tasks.path),
            *("--out", tmp_path, "--queries", 99999),
        )


@pytest.mark.parametrize("model", ["pi05", "fast"])
@pytest.mark.parametrize("position", ["suffix.first", "prefix.last"])
def test_attention_falls_on_the_patches_it_came_from(place, two_tasks, model, position):
    """Against all of the attention of one pass without alignment or layer choice."""
    base = load_checkpoint(place / model)
    frames, rows = model_frames(two_tasks, base), np.array([2, 40, 55])
    maps = attention_maps(base.params, base.config, frames, rows, HEADS, position=position, block=2)
    observation = observation_of(frames.gather(rows))
    tap = Tap(f"{position.partition('.')[0]}.attn.pattern", at=position, label="a")
    if model == "fast" and position == "prefix.last":
        pattern = pi0_fast.text_pass(base.params, base.config, prompt_only(observation), taps=[tap]).taps["a"]
    elif model == "fast":
        state = pi0_fast.prefill(base.params, base.config, prompt_only(observation), 1)
        first = jnp.full(3, frames.fast.first_token)
        aligned = np.asarray(pi0_fast.decode_step(base.params, base.config, state, first, 0, taps=[tap])[1]["a"])
        pattern = np.stack([np.roll(aligned[:, i, :, :-1], int(n), axis=-1) for i, n in enumerate(state.length)], 1)
    else:
        noise = jnp.zeros(()) + model_noise(base.config)
        x_t = jnp.broadcast_to(noise, (3, *noise.shape))
        pattern = pi0.velocity(base.params, base.config, observation, x_t, jnp.ones(3), taps=[tap])[1]["a"]
    pattern, slots = np.asarray(pattern), list(maps.maps)
    assert slots == [c for c in base.config.cameras if c in frames.images]
    tokens = base.config.siglip.num_tokens
    for i, slot in enumerate(slots):
        expected = np.stack([pattern[layer, :, head, i * tokens : (i + 1) * tokens] for layer, head in HEADS], 1)
        np.testing.assert_allclose(maps.maps[slot].reshape(expected.shape), expected, atol=1e-5)
    total = sum(x.sum((2, 3)) for x in maps.maps.values()) + maps.elsewhere
    np.testing.assert_allclose(total, 1, atol=1e-5)
    with pytest.raises(RobosteerError, match="for attention"):
        attention_maps(base.params, base.config, frames, rows, HEADS, position="suffix.mean")


def model_noise(config):
    import jax

    return jax.random.normal(jax.random.key(0), (config.action_horizon, config.action_dim))


def test_an_overlay_colours_the_patch_that_it_means():
    heat = np.zeros((2, 2))
    heat[0, 1] = 1  # first row, second column: top right
    drawn = overlay(np.zeros((28, 28, 3), np.uint8), heat, 1.0, 56)
    assert drawn[:28, 28:].min() > 40
    assert drawn[28:].max() == drawn[:28, :28].max() == 0


def test_attention_is_drawn_and_filmed(place, selection, two_tasks, tmp_path, capsys, monkeypatch):
    options = ["attention", "--dataset", two_tasks.path, "--base", place / "pi05", "--selection", selection]
    options += ["--out", tmp_path, "--episode", 1, "--stride", 2]
    found = told(capsys, *options)
    assert {p.name for p in tmp_path.iterdir()} == {"attention.png", "attention.mp4"}
    with av.open(str(tmp_path / "attention.mp4")) as film:
        pictures = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(pictures) == found["frames"]
    assert np.ptp(pictures[0].astype(int)) > 100
    assert Image.open(tmp_path / "attention.png").size[1] > 300
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(RobosteerError, match="pip install rerun-sdk"):
        run(*options, "--rerun")


def test_a_gallery_shows_the_neighbours_that_score(place, selection, two_tasks, tmp_path, capsys):
    options = ["gallery", "--cache", place / "c_pi05", "--selection", selection, "--dataset", two_tasks.path]
    found = told(capsys, *options, "--out", tmp_path, "--heads", 1)
    assert len(found["files"]) == 1
    text = next(tmp_path.iterdir()).read_text()
    assert text.count("episode") == 4 * (1 + HeadSelection.load(selection).k)
    with pytest.raises(RobosteerError, match="--camera: found 'top', expected one of"):
        run(*options, "--out", tmp_path, "--camera", "top")


def test_the_report_is_one_page_that_asks_for_nothing(place, selection, two_tasks, tmp_path, capsys):
    page = tmp_path / "report.html"
    options = ["report", "--cache", place / "c_pi05", "--selection", selection, "--out", page]
    options += ["--samples", 20, "--permutations", 9]
    found = told(capsys, *options, "--dataset", two_tasks.path, "--base", place / "pi05")
    assert found["left_out"] == {}
    assert found["sections"] == [
        *("map", "bootstrap", "null", "clock", "stability", "redundancy", "votes", "neighbours", "attention"),
    ]
    text = page.read_text()
    outside = re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)[^"']*|url\((?!#|["']?data:)[^)]*\)|@import""", text)
    assert outside == []
    assert "<script" not in text
    images = re.findall(r'src="data:image/([a-z+]+);base64,([^"]*)"', text)
    assert len(images) == 11
    for kind, data in images:
        raw = base64.b64decode(data)
        assert b"<svg" in raw if kind == "svg+xml" else Image.open(io.BytesIO(raw)).size[0] > 100
    assert TASKS[0] in text
    with pytest.raises(RobosteerError, match="--base: found without --dataset"):
        run(*options, "--base", place / "pi05")
