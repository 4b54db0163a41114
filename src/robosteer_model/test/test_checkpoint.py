"""Checkpoints.

Pins: a checkpoint is exactly what was saved (dtypes too), with and without the `value` level, in the layout that openpi
reads; leaves are never silently dropped (openpi drops LoRA leaves when the config has none); a crash while saving
leaves no half-written checkpoint under the final name; a checkpoint that tells the directories of the machine that
wrote it; provenance survives; loading needs the model's size once.
"""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import random_params, tiny_checkpoint, tiny_config

from robosteer_model import checkpoint as module
from robosteer_model import checkpoint_store
from robosteer_model.checkpoint import load_checkpoint, save_checkpoint
from robosteer_model.checkpoint_store import list_leaves, read_leaf, stored_paths
from robosteer_model.errors import ModelError
from robosteer_model.params import flatten, unflatten


def assert_same_leaves(a, b):
    first, second = flatten(a), flatten(b)
    assert first.keys() == second.keys()
    for path, leaf in first.items():
        assert leaf.dtype == second[path].dtype, path
        np.testing.assert_array_equal(np.asarray(leaf), np.asarray(second[path]), err_msg=path)


@pytest.mark.parametrize("value_level", [False, True])
def test_round_trip_keeps_every_bit_and_dtype(tmp_path, value_level):
    checkpoint = tiny_checkpoint(lora=True)
    flat = flatten(checkpoint.params)
    mixed = {p: jnp.asarray(x, jnp.bfloat16) if "lora" not in p else jnp.asarray(x) for p, x in flat.items()}
    checkpoint = dataclasses.replace(checkpoint, params=unflatten(mixed))
    path = save_checkpoint(tmp_path / "c", checkpoint, value_level=value_level)
    loaded = load_checkpoint(path)
    assert_same_leaves(loaded.params, checkpoint.params)
    assert all(name.endswith(".value") == value_level for name in stored_paths(path / "params").values())
    for field in ("config", "asset_id", "tokenizer", "rig", "action_convention", "provenance", "data_layout"):
        assert getattr(loaded, field) == getattr(checkpoint, field), field
    for name, stats in checkpoint.norm_stats.items():
        for field in ("mean", "std", "q01", "q99"):
            np.testing.assert_array_equal(getattr(loaded.norm_stats[name], field), getattr(stats, field))


def test_layout_is_openpis(saved):
    assert {p.name for p in saved.iterdir()} == {"params", "assets", "robosteer.json"}
    assert (saved / "assets/droid/norm_stats.json").is_file()
    keys = json.loads((saved / "params/_METADATA").read_text())["tree_metadata"]
    assert all(entry["key_metadata"][0]["key"] == "params" for entry in keys.values())


def test_no_file_tells_where_it_was_written(saved):
    place = str(saved.parent).encode()
    assert (saved / "params/commit_success.txt").is_file()
    assert not [path for path in saved.rglob("*") if path.is_file() and place in path.read_bytes()]


def test_orbax_itself_reads_it(saved):
    import orbax.checkpoint as ocp

    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.restore(saved / "params")
    assert_same_leaves(tree["params"], load_checkpoint(saved).params)


def test_cast_while_loading_rounds_as_jax_does(saved):
    wide, narrow = flatten(load_checkpoint(saved).params), flatten(load_checkpoint(saved, dtype="bfloat16").params)
    for path, leaf in wide.items():
        assert narrow[path].dtype == jnp.bfloat16
        np.testing.assert_array_equal(np.asarray(narrow[path]), np.asarray(leaf.astype(jnp.bfloat16)))


def test_memory_stays_near_the_models_own_size(saved, tmp_path, monkeypatch):
    """Leaves are read into memory that JAX takes over, and our own files come in chunks."""
    for leaf in list_leaves(saved / "params"):
        assert read_leaf(saved / "params", leaf).ctypes.data % 64 == 0
    monkeypatch.setattr(checkpoint_store, "CHUNK_BYTES", 1024)
    path = save_checkpoint(tmp_path / "c", tiny_checkpoint())
    (table,) = [leaf for leaf in list_leaves(path / "params") if leaf.path.endswith("input_embedding")]
    chunk = checkpoint_store._open(path / "params", table.array).chunk_layout.read_chunk.shape
    assert 4 * np.prod(chunk) <= 1024
    assert_same_leaves(load_checkpoint(path).params, jax.tree.map(jnp.asarray, tiny_checkpoint().params))


def test_loaded_leaves_are_jax_arrays(saved):
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(load_checkpoint(saved).params))


def test_misshapen_leaf_names_path_and_both_shapes(saved):
    with pytest.raises(ModelError, match=r"action_in_proj/kernel \(found \(10, 8\), expected \(11, 8\)\)"):
        load_checkpoint(saved, config=tiny_config(lora=True, action_dim=11))


def test_lora_leaves_are_not_dropped_silently(saved):
    with pytest.raises(ModelError, match=r"lora_a \(unused, found .*it holds LoRA factors"):
        load_checkpoint(saved, config=tiny_config())


def test_missing_lora_leaves_are_an_error(tmp_path):
    path = save_checkpoint(tmp_path / "c", tiny_checkpoint())
    with pytest.raises(ModelError, match=r"lora_a \(missing, expected .*holds no LoRA"):
        load_checkpoint(path, config=tiny_config(lora=True))


def test_saving_params_that_do_not_fit_the_config_fails_before_writing(tmp_path):
    checkpoint = dataclasses.replace(tiny_checkpoint(), params=random_params(tiny_config(action_dim=9)))
    with pytest.raises(ModelError, match="found \\(9, 8\\), expected \\(10, 8\\)"):
        save_checkpoint(tmp_path / "c", checkpoint)
    assert list(tmp_path.iterdir()) == []


def test_a_crash_while_saving_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = save_checkpoint(tmp_path / "c", tiny_checkpoint())
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}

    def crash(*_):
        raise OSError("disk full")

    monkeypatch.setattr(module, "_manifest_text", crash)
    with pytest.raises(ModelError, match="disk full"):
        save_checkpoint(path, tiny_checkpoint(), overwrite=True)
    assert {p: p.read_bytes() for p in path.rglob("*") if p.is_file()} == before
    monkeypatch.undo()
    save_checkpoint(path, tiny_checkpoint(), overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_an_existing_checkpoint_is_not_overwritten(saved):
    with pytest.raises(ModelError, match="expected a free name"):
        save_checkpoint(saved, tiny_checkpoint())


def test_stock_checkpoint_needs_a_config(saved, tmp_path):
    path = shutil.copytree(saved, tmp_path / "c")
    (path / "robosteer.json").unlink()
    with pytest.raises(ModelError, match=r"found no robosteer.json, expected a config"):
        load_checkpoint(path)
    assert load_checkpoint(path, config=tiny_config(lora=True)).asset_id == "droid"


def test_the_directory_above_says_which_one_to_give(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run/4999")
    with pytest.raises(ModelError, match="give one of its steps \\(4999\\)"):
        load_checkpoint(tmp_path / "run")
    shutil.copytree(saved, tmp_path / "first/checkpoint")
    with pytest.raises(ModelError, match=f"; give {tmp_path}/first/checkpoint$"):
        load_checkpoint(tmp_path / "first")


def test_several_statistics_need_a_name(saved, tmp_path):
    path = shutil.copytree(saved, tmp_path / "c")
    shutil.copytree(path / "assets/droid", path / "assets/org/other")
    (path / "robosteer.json").unlink()
    config = tiny_config(lora=True)
    with pytest.raises(ModelError, match=r"found statistics \['droid', 'org/other'\], expected one"):
        load_checkpoint(path, config=config)
    assert load_checkpoint(path, config=config, asset_id="org/other").asset_id == "org/other"
    with pytest.raises(ModelError, match="expected 'third'"):
        load_checkpoint(path, config=config, asset_id="third")
