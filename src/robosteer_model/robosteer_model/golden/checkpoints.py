"""Checks reading and writing of checkpoints that openpi itself saved, which lie beside the file."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from robosteer_model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from robosteer_model.errors import ModelError
from robosteer_model.golden.model_file import Arrays, below, load_arrays, model_config
from robosteer_model.golden.report import Comparison, compare_exact, miss
from robosteer_model.params import flatten

NAME = re.compile(r"(?P<set>.+)_ckpt_(?P<kind>.+)_params")


def claims(keys: frozenset[str]) -> frozenset[str]:
    """Every key of a file of stored parameters with their dtypes."""
    stored = any(key.startswith("dtype/") for key in keys) and any(key.startswith("param/") for key in keys)
    return keys if stored and "config_json" in keys else frozenset()


def checkpoint_beside(path: Path, set_name: str, kind: str) -> Path:
    """The step directory `openpi_ckpt_tiny_<set>/<kind>/<step>` in the folder of `path`.

    Raises:
        ModelError: when there is not exactly one step.
    """
    folder = path.parent / f"openpi_ckpt_tiny_{set_name}" / kind
    steps = sorted(p for p in folder.glob("*") if p.name.isdigit())
    if len(steps) != 1:
        raise ModelError(f"golden: found {len(steps)} steps in {folder}, expected one checkpoint beside {path.name}")
    return steps[0]


def check(path: Path) -> Iterator[Comparison]:
    """Every leaf must be read bit by bit with its dtype, also after we wrote it again."""
    arrays = load_arrays(path)
    match = NAME.fullmatch(path.stem)
    if match is None:
        yield miss("config_json", f"found {path.name}, expected <set>_ckpt_<kind>_params.npz beside its checkpoint")
        return
    source = checkpoint_beside(path, match["set"], match["kind"])
    loaded = load_checkpoint(source, config=model_config(arrays, "bf16"))
    yield from _leaves(arrays, loaded, "")
    with tempfile.TemporaryDirectory() as folder:
        for value_level in (False, True):
            target = Path(folder) / f"value-{value_level}"
            save_checkpoint(target, loaded, value_level=value_level)
            again = load_checkpoint(target)
            yield from _leaves(arrays, again, " (written again, value level)" if value_level else " (written again)")


def _leaves(arrays: Arrays, checkpoint: Checkpoint, suffix: str) -> Iterator[Comparison]:
    found: dict[str, Any] = flatten(checkpoint.params)
    dtypes = below(arrays, "dtype/")
    for leaf, expected in below(arrays, "param/").items():
        name = f"param/{leaf}{suffix}"
        if leaf not in found:
            yield miss(name, "not in the checkpoint")
            continue
        value, dtype = found[leaf], str(dtypes[leaf])
        if str(value.dtype) != dtype:
            yield miss(name, f"dtype {value.dtype}, expected {dtype}")
        else:
            yield compare_exact(name, np.asarray(value, np.float32), expected)
    for leaf in sorted(set(found) - set(below(arrays, "param/"))):
        yield miss(f"param/{leaf}{suffix}", "not in the golden file")
