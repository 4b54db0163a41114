"""Pins openpi's numbers, array by array, and the comparison itself.

Regressions: a changed rounding, mask, position or scale shows here first; a comparison that passes NaN, a missing
array or an unknown key would let anything through.
"""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from tiny import GOLDEN

from robosteer_model.golden import model_file
from robosteer_model.golden.__main__ import main
from robosteer_model.golden.dispatch import check_file, checks, golden_files
from robosteer_model.golden.report import compare, compare_exact

slow = pytest.mark.slow
FILES = [
    "shared_units.npz",
    "shared_pi05.npz",
    pytest.param("shared_pi0.npz", marks=slow),
    pytest.param("shared_pi05_lora.npz", marks=slow),
    pytest.param("shared_pi0_lora.npz", marks=slow),
    pytest.param("shared_pi0_fast.npz", marks=slow),
    pytest.param("shared_pi0_fast_lora.npz", marks=slow),
    pytest.param("shared_train_pi0_lora.npz", marks=slow),
    pytest.param("shared_train_pi05_lora.npz", marks=slow),
    "shared_tokenizer.npz",
    "shared_ckpt_pi05_params.npz",
    "shared_ckpt_pi0_lora_params.npz",
    "shared_e2e_pi05.npz",
    pytest.param("shared_e2e_pi0_lora.npz", marks=slow),
]


@pytest.mark.parametrize("name", FILES)
def test_every_array_of_a_file(name):
    comparisons = list(check_file(GOLDEN / name))
    assert comparisons
    assert [c.line() for c in comparisons if not c.ok] == []


def test_parameter_trees_of_all_six_models():
    files = golden_files([GOLDEN / "manifests"])
    assert len(files) == 7  # six models and their summary
    for path in files:
        assert [c.line() for c in check_file(path) if not c.ok] == []


def test_the_list_above_names_every_file():
    named = {file if isinstance(file, str) else file.values[0] for file in FILES}
    assert named == {path.name for path in GOLDEN.glob("*.npz")}


def test_files_compare_every_output_they_hold():
    arrays = model_file.load_arrays(GOLDEN / "shared_units.npz")
    names = {comparison.name for comparison in check_file(GOLDEN / "shared_units.npz")}
    assert {"rope/out_f32", "align/out_x", "schedule/rsqrt/lr", "lora_ffn/out"} <= names
    assert not [name for name in names if name.startswith(("out", "rope")) and name not in arrays]


def test_nan_shape_and_difference_are_misses():
    assert not compare("x", [np.nan], [1.0]).ok
    assert not compare("x", [1.0, 1.0], [1.0]).ok
    assert not compare("x", [1.01], [1.0]).ok
    assert compare("x", [1.0001], [1.0]).ok
    assert not compare_exact("x", [1, 2], [1, 3]).ok


def test_a_changed_array_and_an_unknown_key_fail_the_command(tmp_path, capsys):
    arrays = model_file.load_arrays(GOLDEN / "shared_units.npz")
    kept = {name: value for name, value in arrays.items() if name.startswith("posemb_sincos/")}
    np.savez(tmp_path / "good.npz", **kept)
    assert main([str(tmp_path / "good.npz")]) == 0
    np.savez(tmp_path / "bad.npz", **kept | {"posemb_sincos/out_32": kept["posemb_sincos/out_32"] * 1.01})
    assert main([str(tmp_path / "bad.npz")]) == 1
    np.savez(tmp_path / "unknown.npz", **kept, surprise=np.zeros(1))
    assert main([str(tmp_path / "unknown.npz")]) == 1
    out = capsys.readouterr().out
    assert "surprise" in out
    assert "no check knows this key" in out


def test_nothing_to_compare_and_unreadable_files_are_one_line(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    (tmp_path / "x.npz").write_bytes(b"not a zip")
    assert main([str(tmp_path / "x.npz")]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 2


def test_training_steps_without_their_model_file_say_what_is_missing(tmp_path):
    shutil.copy(GOLDEN / "shared_train_pi0_lora.npz", tmp_path)
    (only,) = check_file(tmp_path / "shared_train_pi0_lora.npz")
    assert not only.ok
    assert "needs the model file shared_pi0_lora.npz" in only.note


def test_sizes_come_from_the_file():
    content = json.loads((GOLDEN / "shared_pi0_lora_config.json").read_text())
    content["paligemma"] |= {"num_kv_heads": 4, "width": 96}
    content["siglip"] |= {"patch_size": [16, 8], "width": 40}
    content["action_expert"] = content["paligemma"]
    config = model_file.model_config({"config_json": np.asarray(json.dumps(content))})
    assert config.paligemma.num_kv_heads == 4
    assert config.siglip.num_tokens == 14 * 28
    assert config.paligemma.lora_attn == dataclasses.replace(config.paligemma.lora_attn, rank=4, alpha=8.0)


def test_every_check_follows_the_protocol():
    for module in checks():
        assert module.claims(frozenset()) == frozenset()
