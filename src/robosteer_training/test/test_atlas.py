"""Pins: a blocked projection that differs from a dense one, ties that depend on the block size, value vectors without
their LoRA, an interrupted build that starts anew or passes for whole, an atlas of another model taken for this one's,
words that are no token, and presets that a policy would refuse or that steer layers which cannot reach the actions.
"""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from robosteer_model.checkpoint import save_checkpoint
from robosteer_model.config import LoraConfig
from robosteer_model.digest import params_digest
from robosteer_model.lora import adapted_matmul
from robosteer_rig.errors import RobosteerError
from robosteer_training.atlas.projection import top_tokens
from robosteer_training.atlas.store import build_atlas, load_atlas
from robosteer_training.atlas.vectors import readable
from robosteer_training.commands.atlas import main

from .tiny_model import random_params


@pytest.fixture(scope="module")
def place(base, tmp_path_factory):
    path = tmp_path_factory.mktemp("atlas")
    save_checkpoint(path / "base", base)
    assert main(["build", "--base", str(path / "base"), "--out", str(path / "atlas"), "--k", "12"]) == 0
    return path


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 7), st.integers(1, 11), st.randoms(use_true_random=False))
def test_blocks_change_nothing(vectors, tokens, rows, block, random):
    # Small whole numbers: many ties, and no rounding.
    draw = np.random.default_rng(random.getrandbits(32))
    v, e = draw.integers(-2, 3, (vectors, 3)).astype(np.float32), draw.integers(-2, 3, (tokens, 3)).astype(np.float32)
    k = min(tokens, 5)
    ids, scores = top_tokens(v, e, k, rows=rows, block=block)
    dense = v @ e.T
    order = np.argsort(-dense, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_array_equal(scores, np.take_along_axis(dense, order, 1))


def test_value_vectors_are_what_a_coefficient_adds(base):
    """Also where LoRA is not merged, and without attention's scale, as openpi's FFN applies it."""
    adapter = LoraConfig(2, 8.0)
    config = dataclasses.replace(
        base.config, paligemma=dataclasses.replace(base.config.paligemma, lora_attn=adapter, lora_ffn=adapter)
    )
    checkpoint = dataclasses.replace(base, config=config, params=random_params(config, 3))
    mlp = checkpoint.params["PaliGemma"]["llm"]["layers"]["mlp"]
    read = readable(checkpoint)
    one_each = jnp.eye(read.neurons)
    for layer in range(read.layers):
        added = adapted_matmul(one_each, mlp["linear"][layer], mlp["linear_lora_a"][layer], mlp["linear_lora_b"][layer])
        np.testing.assert_allclose(read.layer(layer, "raw"), added, rtol=1e-5, atol=1e-6)


def test_bases_differ_as_their_names_say(base):
    read = readable(base)
    raw, tokens = read.layer(0, "raw"), read.tokens("raw")
    np.testing.assert_allclose(
        read.layer(0, "cosine") @ read.tokens("cosine").T,
        raw @ tokens.T / np.outer(np.linalg.norm(raw, axis=1), np.linalg.norm(tokens, axis=1)),
        rtol=1e-4,
        atol=1e-6,
    )
    np.testing.assert_allclose(read.tokens("centred").mean(0), 0, atol=1e-6)
    np.testing.assert_array_equal(read.layer(0, "norm-folded"), raw * read.final_norm)


def test_an_interrupted_build_goes_on(base, tmp_path):
    atlas = build_atlas(tmp_path, base, k=4)
    whole = {layer: atlas.layer(layer)[0] for layer in range(atlas.shape[0])}
    kept, lost = tmp_path / "layer_00.npz", tmp_path / "layer_01.npz"
    written = kept.stat().st_mtime_ns
    lost.unlink()
    with pytest.raises(RobosteerError, match=r"found no layers \[1\], expected all .* robosteer atlas build"):
        load_atlas(tmp_path)
    done = []
    again = build_atlas(tmp_path, base, k=4, progress=lambda n, total: done.append((n, total)))
    assert kept.stat().st_mtime_ns == written
    assert done[-1] == (2 * atlas.shape[1], atlas.shape[0] * atlas.shape[1])
    for layer, ids in whole.items():
        np.testing.assert_array_equal(again.layer(layer)[0], ids)


def test_another_models_atlas_is_not_written_over(base, place, tmp_path):
    other = dataclasses.replace(base, params=random_params(base.config, 9))
    with pytest.raises(RobosteerError, match=r"checkpoint: found [0-9a-f]{64}, expected [0-9a-f]{64}; choose another"):
        build_atlas(place / "atlas", other, k=12)
    with pytest.raises(RobosteerError, match="k: found 12, expected 3; choose another --out"):
        build_atlas(place / "atlas", base, k=3)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RobosteerError, match="found other files, expected an empty directory or an atlas"):
        build_atlas(tmp_path, base, k=3)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_show_names_the_nearest_tokens(place, base, capsys):
    assert main(["show", "--atlas", str(place / "atlas"), "--vectors", "1.3", "0.0", "--depth", "3", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    read = readable(base)
    scores = read.tokens("raw") @ read.layer(1, "raw")[3]
    best = np.argsort(-scores, kind="stable")[:3]
    assert [token["id"] for token in shown["1.3"]] == best.tolist()
    np.testing.assert_allclose([token["score"] for token in shown["1.3"]], scores[best], rtol=1e-5)
    with pytest.raises(RobosteerError, match=r"--vectors: found '1\.9999', expected LAYER\.INDEX below"):
        main(["show", "--atlas", str(place / "atlas"), "--vectors", "1.9999"])


def test_a_search_becomes_a_preset_for_this_checkpoint(place, base, capsys):
    preset = place / "cube.yaml"
    words = ["search", "--atlas", str(place / "atlas"), "--words", "cube", "Red", "--depth", "12", "--size", "5"]
    assert main([*words, "--preset", str(preset), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["found"]
    last = base.config.paligemma.depth - 1
    assert 0 < len(found) <= 5
    assert all(f["layer"] < last for f in found)  # The last layer's FFN cannot reach the actions.
    for f in found:
        texts = [token.lstrip("▁").casefold() for token in f["tokens"]]
        assert any(text in ("cube", "cubes", "red", "reds") for text in texts)
        assert sum(text in ("cube", "cubes", "red", "reds") for text in texts) == f["hits"]
    assert [f["hits"] for f in found] == sorted((f["hits"] for f in found), reverse=True)
    told = yaml.safe_load(preset.read_text())
    assert (told["schema"], told["name"], told["stream"]) == ("robosteer.preset/1", "cube", "prefix")
    assert told["checkpoint"] == params_digest(base.params)
    assert sorted((layer, i) for layer, ids in told["targets"].items() for i in ids) == sorted(
        (f["layer"], f["index"]) for f in found
    )
    name = f"{found[0]['layer']}.{found[0]['index']}"
    assert main([*words, "--exclude", name, "--json"]) == 0
    rest = json.loads(capsys.readouterr().out)["found"]
    assert name not in [f"{f['layer']}.{f['index']}" for f in rest]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--words", "antidisestablish"], r"--words: found \['antidisestablish'\], expected words that are one token"),
        (["--words", "cube", "--depth", "13"], "--depth: found 13, expected 1 to 12"),
        (["--words", "cube", "--layers", "77"], r"--layers: found \[77\], expected 0 to"),
        (["--words", "cube", "--preset", "Up.yaml"], "--preset Up.yaml: found this name, expected lower-case"),
        (["--words", "cube", "--preset", "up.yaml", "--max-strength", "2"], "--max-strength: found 2.0"),
    ],
)
def test_what_a_user_can_fix_is_one_line(place, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RobosteerError, match=message):
        main(["search", "--atlas", str(place / "atlas"), *options])
    assert not list(tmp_path.iterdir())


def test_a_place_without_an_atlas_says_how_to_make_one(tmp_path):
    with pytest.raises(RobosteerError, match=r"found no atlas\.json .* make it with robosteer atlas build"):
        load_atlas(tmp_path)
    (tmp_path / "atlas.json").write_text("[]")
    with pytest.raises(RobosteerError, match=r"of another kind, expected schema robosteer\.atlas/1"):
        load_atlas(tmp_path)
