"""The parameter store of an openpi checkpoint: an orbax OCDBT directory of zarr arrays.

Reading goes through TensorStore directly, one leaf at a time, straight into its final array: restoring the whole tree
at once would need the model's size twice. Writing goes through orbax, so that stock tools read the result.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from robosteer_model.checkpoint_layout import check_relative
from robosteer_model.errors import ModelError
from robosteer_model.jsonio import read_json
from robosteer_model.patience import everything_awaited

# The one top-level key of the stored tree, and the level that flax nnx adds below every leaf.
TOP_KEY = "params"
VALUE_KEY = "value"
DTYPES: dict[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}
# Written chunks stay this small, so that readers never hold more than one of them besides the model.
CHUNK_BYTES = 64 * 1024 * 1024
COMMIT_FILE, COMMITTED = "commit_success.txt", "Checkpoint commit was successful"
MAX_LEAVES = 10_000


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One stored array.

    Attributes:
        path: '/'-joined path in the model's tree (no `params` top key, no `value` level).
        array: its name in the store.
        shape: its stored shape.
        dtype: its stored dtype, a key of `DTYPES`.
    """

    path: str
    array: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Size in memory at the stored dtype."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


def _keys(entry: Any, where: str) -> tuple[str, ...]:
    keys = entry.get("key_metadata") if isinstance(entry, dict) else None
    if not isinstance(keys, list) or not all(isinstance(k, dict) and isinstance(k.get("key"), str) for k in keys):
        raise ModelError(f"{where}: found a leaf without key_metadata, expected orbax metadata; re-export the file")
    names = tuple(k["key"] for k in keys)
    for name in names:
        check_relative(name, f"{where}: leaf {names}")
    if any("/" in name or "." in name for name in names):
        raise ModelError(f"{where}: found a key with '/' or '.' in {names}, expected plain names")
    return names


def stored_paths(params: Path) -> dict[str, str]:
    """Leaf path in the model's tree -> array name in the store, from the store's metadata file.

    Args:
        params: the `params/` directory, already looked through by `Layout.open`.

    Raises:
        ModelError: when the metadata is missing or not openpi's layout.
    """
    where = f"{params.name}/_METADATA"
    document = read_json(params / "_METADATA")
    tree = document.get("tree_metadata") if isinstance(document, dict) else None
    if not isinstance(tree, dict) or not tree or len(tree) > MAX_LEAVES:
        raise ModelError(f"{where}: found no tree_metadata, expected an orbax parameter tree; re-export the checkpoint")
    if document.get("use_zarr3") or not (params / "manifest.ocdbt").is_file():
        raise ModelError(f"{where}: found a zarr3 or non-OCDBT store, expected orbax's OCDBT with zarr 2; re-export it")
    names = [_keys(entry, where) for entry in tree.values()]
    strangers = [".".join(n) for n in names if len(n) < 2 or n[0] != TOP_KEY]
    if strangers:
        raise ModelError(f"{where}: found leaves {strangers[:3]}, expected every leaf below the key '{TOP_KEY}'")
    # openpi's rule: the level is removed only when every leaf has it.
    strip = -1 if all(n[-1] == VALUE_KEY and len(n) > 2 for n in names) else None
    return {"/".join(n[1:strip]): ".".join(n) for n in names}


def _open(params: Path, array: str) -> Any:
    import tensorstore as ts  # 0.3 s to import

    spec = {
        "driver": "zarr",
        "kvstore": {"driver": "ocdbt", "base": {"driver": "file", "path": f"{params}/"}, "path": f"{array}/"},
        # Mapped files keep compressed bytes out of the process's own memory.
        "context": {"file_io_mode": {"mode": "memmap"}},
    }
    try:
        return ts.open(spec, open=True, create=False, read=True, write=False).result()
    except (ValueError, OSError, RuntimeError) as error:
        reason = str(error).split("[", 1)[0].strip()
        raise ModelError(f"checkpoint leaf {array}: found {reason}; the store is damaged, copy it again") from None


def list_leaves(params: Path) -> list[Leaf]:
    """Every leaf with its stored shape and dtype, sorted by path; no array data is read.

    Raises:
        ModelError: for damaged or unsupported stores.
    """
    leaves = []
    for path, array in sorted(stored_paths(params).items()):
        store = _open(params, array)
        dtype = str(store.dtype.name)
        if dtype not in DTYPES:
            raise ModelError(f"checkpoint leaf {path}: found dtype {dtype}, expected one of {', '.join(DTYPES)}")
        leaves.append(Leaf(path, array, tuple(store.shape), dtype))
    return leaves


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An empty array that JAX on a CPU takes over without copying: it asks for 64-byte alignment."""
    nbytes = math.prod(shape) * dtype.itemsize
    buffer = np.empty(nbytes + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + nbytes].view(dtype).reshape(shape)


def read_leaf(params: Path, leaf: Leaf, dtype: str | None = None) -> np.ndarray:
    """Read one leaf into a fresh array.

    Args:
        params: the `params/` directory.
        leaf: from `list_leaves`.
        dtype: cast while reading (round to nearest even); None keeps the stored dtype.

    Returns:
        An array of `leaf.shape`.
    """
    import tensorstore as ts

    store = _open(params, leaf.array)
    target = _aligned(leaf.shape, DTYPES[dtype or leaf.dtype])
    source = store if dtype in (None, leaf.dtype) else ts.cast(store, dtype)
    try:
        ts.array(target).write(source).result()
    except (ValueError, OSError, RuntimeError) as error:
        reason = str(error).split("[", 1)[0].strip()
        raise ModelError(f"checkpoint leaf {leaf.path}: found {reason}; the store is damaged, copy it again") from None
    return target


def check_leaves(leaves: list[Leaf], expected: Mapping[str, tuple[int, ...]], where: str) -> None:
    """The stored leaves are exactly those of the model.

    Args:
        leaves: what is stored.
        expected: leaf path -> shape of the model's tree.
        where: the checkpoint, for messages.

    Raises:
        ModelError: naming missing, unused and misshapen leaves with both shapes.
    """
    stored = {leaf.path: leaf.shape for leaf in leaves}
    missing = [f"{p} (missing, expected {expected[p]})" for p in sorted(expected.keys() - stored.keys())]
    unused = [f"{p} (unused, found {stored[p]})" for p in sorted(stored.keys() - expected.keys())]
    wrong = [
        f"{p} (found {stored[p]}, expected {tuple(expected[p])})"
        for p in sorted(stored.keys() & expected.keys())
        if stored[p] != tuple(expected[p])
    ]
    problems = missing + unused + wrong
    if not problems:
        return
    shown = "; ".join(problems[:6]) + (f"; and {len(problems) - 6} more" if len(problems) > 6 else "")
    raise ModelError(f"checkpoint {where}: leaves differ from the model: {shown}; {_advice(missing, unused)}")


def _advice(missing: list[str], unused: list[str]) -> str:
    if unused and all("lora" in p for p in unused):
        return "it holds LoRA factors: give a config with LoRA of that rank, or `robosteer checkpoint merge` it first"
    if missing and all("lora" in p for p in missing):
        return "it holds no LoRA factors: give the config without LoRA"
    return "give the config that it was trained with"


def write_tree(params: Path, tree: Mapping[str, Any], *, value_level: bool = False) -> None:
    """Write a parameter tree as orbax does for openpi.

    Where several processes train together, the one that calls this writes alone and waits for no other.

    Args:
        params: the directory to create.
        tree: nested dict of arrays in openpi's tree.
        value_level: add the `value` level that openpi's own training writes (its released checkpoints have none).
    """
    import jax
    import orbax.checkpoint as ocp  # 3 s to import

    item: Any = jax.tree.map(lambda leaf: {VALUE_KEY: leaf}, dict(tree)) if value_level else dict(tree)
    item = {TOP_KEY: item}
    save_args = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES), item)
    alone = ocp.options.MultiprocessingOptions()
    if jax.process_count() > 1:
        # By default orbax meets all processes here; and it takes one process's device arrays for parts of a whole.
        alone = ocp.options.MultiprocessingOptions(jax.process_index(), {jax.process_index()})
        item = jax.device_get(item)
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    with everything_awaited(), ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
        checkpointer.save(params.absolute(), item, save_args=save_args)
    # orbax notes here where it wrote: a temporary place on this machine, which a checkpoint given away need not tell.
    commit = params / COMMIT_FILE
    if commit.exists():
        commit.write_text(COMMITTED)
