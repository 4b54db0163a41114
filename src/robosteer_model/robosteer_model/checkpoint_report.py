"""What a checkpoint holds, whether it is sound, and how two differ; leaves are streamed, never all in memory."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from robosteer_model.checkpoint import choose_config, expected_shapes, load_assets, read_tokenizer
from robosteer_model.checkpoint_layout import Layout
from robosteer_model.checkpoint_manifest import Manifest, file_digests
from robosteer_model.checkpoint_store import Leaf, check_leaves, list_leaves, read_leaf
from robosteer_model.config import STOCK_CONFIGS, ModelConfig
from robosteer_model.errors import ModelError
from robosteer_model.tokenizer import SentencePiece, check_vocabulary

PathLike = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Contents:
    """A checkpoint seen from outside; no array data was read.

    Attributes:
        path: its directory.
        model_type: from robosteer.json, or None for a stock checkpoint.
        fits: stock configs with exactly these leaves.
        parameters: number of parameters.
        nbytes: size in memory at the stored dtypes.
        dtypes: parameters by stored dtype.
        lora: LoRA rank by adapted module, over all layers.
        asset_ids: normalisation statistics that are there.
        tokenizer_sha256: of the model's own SentencePiece file, or None.
        provenance: from robosteer.json.
        leaves: every stored array.
    """

    path: str
    model_type: str | None
    fits: list[str]
    parameters: int
    nbytes: int
    dtypes: dict[str, int]
    lora: dict[str, int]
    asset_ids: list[str]
    tokenizer_sha256: str | None
    provenance: dict[str, Any]
    leaves: list[Leaf]


def inspect(path: PathLike) -> Contents:
    """Look at a checkpoint without reading its arrays.

    Raises:
        ModelError: when it is unsafe or damaged.
    """
    layout = Layout.open(path)
    manifest = Manifest.read(layout.manifest)
    leaves = list_leaves(layout.params)
    sizes = {leaf.path: math.prod(leaf.shape) for leaf in leaves}
    dtypes: collections.Counter[str] = collections.Counter()
    for leaf in leaves:
        dtypes[leaf.dtype] += sizes[leaf.path]
    tokenizer = read_tokenizer(layout)
    return Contents(
        path=str(layout.root),
        model_type=manifest.config.model_type if manifest.config else None,
        fits=_fitting(leaves),
        parameters=sum(sizes.values()),
        nbytes=sum(leaf.nbytes for leaf in leaves),
        dtypes=dict(dtypes),
        lora={leaf.path.removesuffix("lora_a").rstrip("_/"): leaf.shape[-1] for leaf in leaves if _is_lora_a(leaf)},
        asset_ids=layout.asset_ids(),
        tokenizer_sha256=hashlib.sha256(tokenizer).hexdigest() if tokenizer is not None else None,
        provenance=dict(manifest.provenance),
        leaves=leaves,
    )


def _is_lora_a(leaf: Leaf) -> bool:
    return leaf.path.endswith("lora_a")


def _fitting(leaves: list[Leaf]) -> list[str]:
    stored = {leaf.path: leaf.shape for leaf in leaves}
    return [name for name, config in STOCK_CONFIGS.items() if expected_shapes(config) == stored]


def verify(path: PathLike, config: ModelConfig | str | None = None) -> list[str]:
    """Every problem of a checkpoint: leaves, changed files, statistics, tokenizer, non-finite numbers.

    Args:
        path: the checkpoint.
        config: the model, or the name of a stock one; None takes the one in robosteer.json.

    Returns:
        One line per problem; empty when it is sound.

    Raises:
        ModelError: when it cannot be opened at all, or no config is known.
    """
    layout = Layout.open(path)
    manifest = Manifest.read(layout.manifest)
    model = choose_config(config, manifest, layout.root)
    leaves = list_leaves(layout.params)
    problems = []
    for step in (
        lambda: check_leaves(leaves, expected_shapes(model), str(layout.root)),
        lambda: _check_files(layout, manifest),
        lambda: _check_stats(layout, manifest, model),
        lambda: _check_tokenizer(layout, model),
    ):
        try:
            step()
        except ModelError as error:
            problems.append(str(error))
    # Of others it is said already that they do not fit; their size is whatever somebody wrote.
    expected = expected_shapes(model)
    return problems + list(_unreadable(layout, [leaf for leaf in leaves if expected.get(leaf.path) == leaf.shape]))


def _unreadable(layout: Layout, leaves: list[Leaf]) -> Iterator[str]:
    for leaf in leaves:
        try:
            values = read_leaf(layout.params, leaf)
        except ModelError as error:
            yield str(error)
            continue
        bad = values.size - int(np.count_nonzero(np.isfinite(values)))
        if bad:
            yield f"checkpoint leaf {leaf.path}: found {bad} NaN or infinite values, expected finite ones; train again"


def _check_files(layout: Layout, manifest: Manifest) -> None:
    if not manifest.files:
        return
    found = file_digests(layout.root)
    changed = [name for name, digest in manifest.files.items() if found.get(name) != digest]
    if changed:
        shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise ModelError(f"files: found {shown} changed or missing since it was saved; copy the checkpoint again")


def _check_stats(layout: Layout, manifest: Manifest, config: ModelConfig) -> None:
    for asset in layout.asset_ids():
        _, stats = load_assets(layout, asset)
        for name, value in (stats or {}).items():
            if value.size > config.action_dim and name in ("state", "actions") and config.model_type != "pi0_fast":
                raise ModelError(f"norm_stats {asset}: {name}: found {value.size}, expected <= {config.action_dim}")
    if manifest.asset_id is not None and layout.asset_ids() and manifest.asset_id not in layout.asset_ids():
        raise ModelError(f"asset_id: found {layout.asset_ids()}, expected {manifest.asset_id!r} of robosteer.json")


def _check_tokenizer(layout: Layout, config: ModelConfig) -> None:
    model = read_tokenizer(layout)
    if model is not None:
        check_vocabulary(config, SentencePiece(model, str(layout.tokenizer)))


@dataclasses.dataclass(frozen=True)
class LeafChange:
    """How one leaf differs.

    Attributes:
        path: the leaf.
        kind: "only in A", "only in B", "shape" or "values".
        detail: shapes, or the size of the change.
        heads: changed (layer, head) pairs of an attention weight whose axes are (layer, head, ...).
    """

    path: str
    kind: str
    detail: str
    heads: list[tuple[int, int]] = dataclasses.field(default_factory=list)


def diff(a: PathLike, b: PathLike) -> list[LeafChange]:
    """Every leaf in which two checkpoints differ, by value (dtypes are compared after widening to float32)."""
    one, two = Layout.open(a), Layout.open(b)
    first = {leaf.path: leaf for leaf in list_leaves(one.params)}
    second = {leaf.path: leaf for leaf in list_leaves(two.params)}
    changes = []
    for path in sorted(first.keys() | second.keys()):
        x, y = first.get(path), second.get(path)
        if x is None or y is None:
            present = x or y
            shape = present.shape if present else ()
            changes.append(LeafChange(path, "only in A" if y is None else "only in B", f"{shape}"))
        elif x.shape != y.shape:
            changes.append(LeafChange(path, "shape", f"{x.shape} and {y.shape}"))
        else:
            change = _values(path, read_leaf(one.params, x, "float32"), read_leaf(two.params, y, "float32"))
            changes += [change] if change else []
    return changes


def _values(path: str, x: np.ndarray, y: np.ndarray) -> LeafChange | None:
    if np.array_equal(x, y, equal_nan=True):
        return None
    delta = np.abs(x - y)
    scale = float(np.max(np.abs(x))) or 1.0
    detail = f"max |difference| {float(np.max(delta)):.3e} ({float(np.max(delta)) / scale:.1e} of the largest weight)"
    return LeafChange(path, "values", detail, _heads(path, delta))


def _heads(path: str, delta: np.ndarray) -> list[tuple[int, int]]:
    module = path.split("/")[-2] if "/" in path else ""
    if not module.startswith(("q_einsum", "attn_vec_einsum")):
        return []
    changed = np.argwhere(np.any(delta > 0, axis=tuple(range(2, delta.ndim))))
    return [(int(layer), int(head)) for layer, head in changed]
