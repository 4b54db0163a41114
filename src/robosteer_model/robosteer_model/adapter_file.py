"""A finetuning kept apart from its base: a small directory that `robosteer checkpoint merge` applies.

```
<adapter>/
  adapter.json   schema, which base (sha256 of its parameters), model config, rig, provenance, the list of changes
  adapter.npz    their arrays, float32; no pickles
```
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from robosteer_model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from robosteer_model.config import ModelConfig
from robosteer_model.deltas import Delta, apply_deltas
from robosteer_model.digest import params_digest
from robosteer_model.errors import ModelError
from robosteer_model.jsonio import read_json

SCHEMA = "robosteer.adapter/1"
JSON_FILE = "adapter.json"
ARRAYS_FILE = "adapter.npz"
_ARRAYS = ("index", "a", "b", "value")


@dataclasses.dataclass(frozen=True)
class Adapter:
    """A finetuning without its base.

    Attributes:
        deltas: the changes.
        base_digest: `params_digest` of the base that they belong to.
        config: the base model.
        rig: text of the rig file of the data, or None.
        provenance: where it comes from, as JSON.
    """

    deltas: tuple[Delta, ...]
    base_digest: str
    config: ModelConfig
    rig: str | None = None
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def applied_to(self, base: Checkpoint) -> Checkpoint:
        """The merged checkpoint.

        Raises:
            ModelError: for another base.
        """
        found = params_digest(base.params)
        if found != self.base_digest:
            raise ModelError(
                f"adapter: found base parameters {found[:12]}, expected {self.base_digest[:12]}; "
                "give the checkpoint that it was trained on"
            )
        return dataclasses.replace(
            base,
            params=apply_deltas(base.params, self.deltas),
            config=self.config,
            rig=self.rig or base.rig,
            provenance=dict(self.provenance),
        )


def is_adapter(path: str | os.PathLike[str]) -> bool:
    """Whether a directory holds an adapter, and not a checkpoint."""
    return (Path(path) / JSON_FILE).is_file()


def save_adapter(path: Path, adapter: Adapter, *, overwrite: bool = False) -> Path:
    """Write an adapter; it appears under its name only when complete and on disk.

    Raises:
        ModelError: when something is there already.
    """
    target = path.expanduser().absolute()
    if target.exists() and not overwrite:
        raise ModelError(f"adapter: found something at {target}, expected a free name; remove it or choose another")
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    arrays, listed = {}, []
    for i, delta in enumerate(adapter.deltas):
        present = {name: getattr(delta, name) for name in _ARRAYS if getattr(delta, name) is not None}
        arrays |= {f"{i}.{name}": array for name, array in present.items()}
        listed.append({"path": delta.path, "scale": delta.scale, "arrays": sorted(present)})
    document = {
        "schema": SCHEMA,
        "base_digest": adapter.base_digest,
        "model": adapter.config.to_json(),
        "rig": adapter.rig,
        "provenance": dict(adapter.provenance),
        "deltas": listed,
    }
    with (partial / ARRAYS_FILE).open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())
    (partial / JSON_FILE).write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")
    if target.exists():
        shutil.rmtree(target)
    partial.rename(target)
    return target


def load_adapter(path: str | os.PathLike[str]) -> Adapter:
    """Read an adapter.

    Raises:
        ModelError: no such file, another schema, missing or malformed fields, damaged arrays.
    """
    root = Path(path)
    data = read_json(root / JSON_FILE)
    found = data.get("schema") if isinstance(data, dict) else type(data).__name__
    if found != SCHEMA:
        raise ModelError(f"{root / JSON_FILE}: found schema {found!r}, expected {SCHEMA!r}")
    try:
        with np.load(root / ARRAYS_FILE, allow_pickle=False) as file:
            deltas = [
                Delta(
                    str(entry["path"]),
                    scale=float(entry["scale"]),
                    **{name: file[f"{i}.{name}"] for name in entry["arrays"] if name in _ARRAYS},
                )
                for i, entry in enumerate(data["deltas"])
            ]
        for delta in deltas:
            delta.require_finite()
        return Adapter(
            tuple(deltas),
            str(data["base_digest"]),
            ModelConfig.from_json(data["model"]),
            data["rig"],
            data["provenance"],
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"adapter {root}: found {error}, expected a sound adapter; copy or make it again") from error


def merge_adapter(
    adapter: str | os.PathLike[str],
    base: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    dtype: Literal["float32", "bfloat16"] | None = None,
) -> Path:
    """Write an ordinary checkpoint: the base with an adapter folded in, in float32.

    Args:
        adapter: directory of the adapter.
        base: the checkpoint that it was trained on.
        target: directory to create.
        dtype: of the written leaves; None keeps the base's, and float32 for changed leaves.

    Returns:
        The absolute path of the written checkpoint.

    Raises:
        ModelError: another base, damage, or `target` exists.
    """
    loaded = load_adapter(adapter)
    merged = loaded.applied_to(load_checkpoint(base, config=loaded.config))
    if dtype is not None:
        import jax
        import jax.numpy as jnp

        merged = dataclasses.replace(merged, params=jax.tree.map(lambda x: jnp.asarray(x, dtype), dict(merged.params)))
    return save_checkpoint(target, merged)
