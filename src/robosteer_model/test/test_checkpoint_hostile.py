"""Checkpoints from strangers.

Pins: TensorStore follows symbolic links out of a checkpoint, so links are refused before anything is opened; asset ids
and leaf names cannot leave the directory; damaged files, sizes that are none, and arrays larger than any memory give
one line, never a traceback or wrong numbers; so do adapters whose factors do not fit, or fit only by broadcasting.
"""

import copy as copy_module
import json
import math
import os
import shutil

import numpy as np
import pytest

from robosteer_model import checkpoint_store
from robosteer_model import config as config_mod
from robosteer_model.adapter_file import Adapter, load_adapter, save_adapter
from robosteer_model.checkpoint import load_checkpoint
from robosteer_model.checkpoint_report import verify
from robosteer_model.deltas import Delta, apply_deltas
from robosteer_model.errors import ModelError
from robosteer_model.params import flatten


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


@pytest.fixture
def nothing_opened(monkeypatch):
    """Fails the test when a store or a JSON file is opened."""

    def opened(*_):
        raise AssertionError("something was opened before the checkpoint was looked through")

    monkeypatch.setattr(checkpoint_store, "_open", opened)
    monkeypatch.setattr("robosteer_model.jsonio.parse_json", opened)


LINKS = [
    "params/manifest.ocdbt",
    "params/d",
    "assets/droid/norm_stats.json",
    "assets/tokenizer.model",
    "robosteer.json",
]


@pytest.mark.usefixtures("nothing_opened")
@pytest.mark.parametrize("name", LINKS)
def test_symbolic_links_are_refused_first(copy, tmp_path, name):
    outside = tmp_path / "outside"
    (copy / name).rename(outside)
    (copy / name).symlink_to(outside)
    with pytest.raises(ModelError, match=f"symbolic link at {name}"):
        load_checkpoint(copy)


@pytest.mark.usefixtures("nothing_opened")
def test_links_in_parts_that_are_not_read_are_refused_too(copy):
    (copy / "train_state").mkdir()
    (copy / "train_state/dangling").symlink_to("/nowhere")
    with pytest.raises(ModelError, match="symbolic link at train_state/dangling"):
        load_checkpoint(copy)


@pytest.mark.usefixtures("nothing_opened")
def test_pipes_are_refused(copy):
    os.mkfifo(copy / "params/d/pipe")
    with pytest.raises(ModelError, match="special file at params/d/pipe"):
        load_checkpoint(copy)


@pytest.mark.parametrize("asset_id", ["../../etc", "/etc", "a/../b", "", "a//b", "a\\b", "a\n"])
def test_asset_ids_cannot_leave_the_directory(copy, asset_id):
    manifest = json.loads((copy / "robosteer.json").read_text())
    (copy / "robosteer.json").write_text(json.dumps(manifest | {"asset_id": asset_id}))
    with pytest.raises(ModelError, match="asset_id"):
        load_checkpoint(copy)


@pytest.mark.parametrize("key", ["..", ".", "", "a/b", "a.b", "../../x"])
def test_leaf_names_cannot_leave_the_store(copy, key):
    path = copy / "params/_METADATA"
    document = json.loads(path.read_text())
    next(iter(document["tree_metadata"].values()))["key_metadata"][1]["key"] = key
    path.write_text(json.dumps(document))
    with pytest.raises(ModelError, match=r"refuse the checkpoint|expected plain names"):
        load_checkpoint(copy)


@pytest.mark.parametrize("key", ["../outside", "d/../../outside", "/etc/passwd"])
def test_tensorstore_itself_refuses_keys_that_leave_the_directory(copy, key):
    """A store's own index names its data files; an index that names others must not open them."""
    import tensorstore

    store = tensorstore.KvStore.open({"driver": "file", "path": f"{copy}/params/"}).result()
    with pytest.raises(ValueError, match="Invalid key"):
        store.read(key).result()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"tree_metadata": {}}', '{"tree_metadata": {"a": 1}}', '{"tree_metadata": NaN}']
)
def test_damaged_metadata_is_one_line(copy, text):
    (copy / "params/_METADATA").write_text(text)
    with pytest.raises(ModelError) as error:
        load_checkpoint(copy)
    assert "\n" not in str(error.value)


def fields(document, above=()):
    for name, value in document.items():
        yield (*above, name)
        yield from fields(value, (*above, name)) if isinstance(value, dict) else ()


def test_every_field_of_a_model_that_makes_no_sense_is_named():
    document, accepted = config_mod.pi05(lora=True).to_json(), set()
    for path in fields(document):
        for value in ("x", -1, 0, 1.5, None, 10**30, 10**400, [], True, [0, 1], math.inf):
            inside = told = copy_module.deepcopy(document)
            for name in path[:-1]:
                inside = inside[name]
            inside[path[-1]] = value
            try:
                config_mod.ModelConfig.from_json(told)
            except ModelError as error:
                assert path[-1] in str(error)  # noqa: PT017 (most are refused)
            else:
                accepted.add((path[-1], value))
    factors = {("alpha", value) for value in (-1, 0, 1.5, 10**30)} | {("lora_attn", None), ("lora_ffn", None)}
    assert accepted == factors | {("rslora", True), ("discrete_state_input", True)}


def test_an_array_larger_than_any_memory_is_a_line_of_verify(copy):
    """Chunks that were never written cost nothing on disk: such an array is a few hundred bytes."""
    import tensorstore

    shape = [2**45]
    store = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{copy}/params/"}, "path": "params.bomb/"}
    metadata = {"shape": shape, "chunks": [2**20], "dtype": "<f4"}
    tensorstore.open({"driver": "zarr", "kvstore": store, "metadata": metadata}, create=True).result()
    path = copy / "params/_METADATA"
    document = json.loads(path.read_text())
    keys = [{"key": "params", "key_type": 2}, {"key": "bomb", "key_type": 2}]
    document["tree_metadata"]["bomb"] = {"key_metadata": keys}
    path.write_text(json.dumps(document))
    assert any("bomb (unused, found (35184372088832,))" in problem for problem in verify(copy))
    with pytest.raises(ModelError, match="bomb"):
        load_checkpoint(copy)


def changed(array, **other):
    return {"path": "w", "index": np.array([[1]]), "a": array, "b": np.ones((1, 2, 3), np.float32)} | other


@pytest.mark.parametrize(
    "fields",
    [
        changed(np.ones((1, 4, 5), np.float32)),  # no product
        changed(np.ones((1, 1, 2), np.float32)),  # a row that would be added to all four
        changed(np.ones((1, 4, 2), np.float32), index=np.array([[-1]])),
        changed(np.ones((1, 4, 2), np.float32), index=np.array([[2]])),
        changed(np.ones((1, 4, 2), np.float32), index=np.array([[0.5]])),
        changed(np.ones((1, 4, 2), np.float32), path="nowhere"),
        {"path": "w", "index": np.array([[1]]), "value": np.ones((1, 4, 2), np.float32)},
        {"path": "w", "value": np.full((1, 2, 4, 3), np.nan, np.float32)},
    ],
)
def test_an_adapter_that_does_not_fit_is_one_line(tmp_path, fields):
    whole = Delta("w", np.array([[1]]), a=np.ones((1, 4, 2), np.float32), b=np.ones((1, 2, 3), np.float32))
    save_adapter(tmp_path / "adapter", Adapter((whole,), "0" * 64, config_mod.pi05()))
    params = {"w": np.zeros((2, 4, 3), np.float32)}
    assert apply_deltas(params, load_adapter(tmp_path / "adapter").deltas)["w"][1].tolist() == [[2.0] * 3] * 4
    path, arrays = fields["path"], {name: value for name, value in fields.items() if name != "path"}
    np.savez(tmp_path / "adapter" / "adapter.npz", **{f"0.{name}": value for name, value in arrays.items()})
    document = json.loads((tmp_path / "adapter" / "adapter.json").read_text())
    document["deltas"] = [{"path": path, "scale": 1.0, "arrays": sorted(arrays)}]
    (tmp_path / "adapter" / "adapter.json").write_text(json.dumps(document))
    with pytest.raises(ModelError) as error:
        apply_deltas(params, load_adapter(tmp_path / "adapter").deltas)
    assert "\n" not in str(error.value)


def store_files(root):
    return [p for p in sorted((root / "params").rglob("*")) if p.parent.name == "d" or p.name == "manifest.ocdbt"]


def test_a_truncated_store_gives_one_line_or_the_right_numbers(copy):
    """orbax leaves bytes behind that the store does without; all others are missed."""
    reference = flatten(load_checkpoint(copy).params)
    complaints = 0
    for path in store_files(copy):
        intact = path.read_bytes()
        for damaged in (intact[: len(intact) // 2], intact[:-1]):
            path.write_bytes(damaged)
            try:
                found = flatten(load_checkpoint(copy).params)
            except ModelError as error:
                complaints += "\n" not in str(error)
            else:
                assert all(np.array_equal(np.asarray(found[p]), np.asarray(leaf)) for p, leaf in reference.items())
        path.write_bytes(intact)
    assert complaints >= 3


def test_verify_notices_every_flipped_bit(copy):
    """Array data carries no checksum of its own in orbax's store."""
    for path in store_files(copy):
        intact = path.read_bytes()
        middle = len(intact) // 2
        path.write_bytes(intact[:middle] + bytes([intact[middle] ^ 4]) + intact[middle + 1 :])
        try:
            problems = verify(copy)
        except ModelError as error:
            problems = [str(error)]
        assert problems, path
        path.write_bytes(intact)
    assert verify(copy) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", "robosteer.checkpoint/9"),
        ("schema", None),
        ("model", None),
        ("model", {"model_type": "pi05"}),
        ("rig", 3),
        ("provenance", []),
        ("surprise", 1),
    ],
)
def test_manifest_is_validated(copy, field, value):
    manifest = json.loads((copy / "robosteer.json").read_text())
    (copy / "robosteer.json").write_text(json.dumps(manifest | {field: value}))
    with pytest.raises(ModelError):
        load_checkpoint(copy)


def test_statistics_with_nan_are_refused(copy):
    path = copy / "assets/droid/norm_stats.json"
    path.write_text(path.read_text().replace('"mean": [\n', '"mean": [\n NaN,', 1))
    with pytest.raises(ModelError, match="NaN is not JSON"):
        load_checkpoint(copy)
