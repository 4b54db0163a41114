"""Checkpoints in openpi's layout: load and save a whole model with its statistics, tokenizer and provenance.

```
<checkpoint>/
  params/                            orbax parameter store, openpi's tree
  assets/<asset_id>/norm_stats.json  openpi's normalisation statistics
  assets/tokenizer.model             only for models with a SentencePiece model of their own
  robosteer.json                     model config, rig, action convention, provenance; stock tools ignore it
```
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from robosteer_model.checkpoint_layout import (
    ASSETS,
    MANIFEST_FILE,
    NORM_STATS_FILE,
    PARAMS,
    TOKENIZER_FILE,
    Layout,
    check_relative,
)
from robosteer_model.checkpoint_manifest import SCHEMA, Manifest, file_digests
from robosteer_model.checkpoint_store import Leaf, check_leaves, list_leaves, read_leaf, write_tree
from robosteer_model.config import ModelConfig, stock_config
from robosteer_model.errors import ModelError
from robosteer_model.norm_stats import NormStats, load_norm_stats, norm_stats_to_json

DEFAULT_ASSET_ID = "droid"
MAX_TOKENIZER_BYTES = 64 * 1024 * 1024
# "compute": the model's own compute dtype, which openpi's policy loader casts every parameter to.
Dtype = Literal["float32", "bfloat16", "compute"]


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A model with everything that is needed to run it.

    Attributes:
        params: nested dict of arrays, openpi's tree without the `value` level.
        config: the model.
        norm_stats: "state" and "actions" statistics, or None for a base model.
        asset_id: name of the statistics, a relative path ("droid").
        tokenizer: the bytes of the model's own SentencePiece file; None means PaliGemma's.
        data_layout: which robot's observations it reads, see `transforms.LAYOUTS`.
        rig: text of the rig file that its data was recorded with, or None.
        action_convention: what an action means, as JSON ({} when unknown).
        provenance: where it comes from, as JSON.
    """

    params: Mapping[str, Any]
    config: ModelConfig
    norm_stats: Mapping[str, NormStats] | None = None
    asset_id: str = DEFAULT_ASSET_ID
    tokenizer: bytes | None = None
    data_layout: str = "droid"
    rig: str | None = None
    action_convention: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_relative(self.asset_id, "asset_id")


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Leaf path -> shape of the model's tree."""
    from robosteer_model.params import flatten, param_shapes

    return {path: tuple(leaf.shape) for path, leaf in flatten(param_shapes(config)).items()}


def choose_config(config: ModelConfig | str | None, manifest: Manifest, where: Path) -> ModelConfig:
    """The given config, else a stock one by name, else that of `robosteer.json`.

    Raises:
        ModelError: when there is none.
    """
    chosen = stock_config(config) if isinstance(config, str) else config or manifest.config
    if chosen is None:
        raise ModelError(f"checkpoint {where}: found no {MANIFEST_FILE}, expected a config; name one (pi05_droid, ...)")
    return chosen


def _choose_asset(layout: Layout, asset_id: str | None) -> str | None:
    present = layout.asset_ids()
    if asset_id is None:
        if len(present) > 1:
            raise ModelError(f"checkpoint {layout.root}: found statistics {present}, expected one; name the asset_id")
        return present[0] if present else None
    check_relative(asset_id, "asset_id")
    if present and asset_id not in present:
        raise ModelError(f"checkpoint {layout.root}: found statistics {present}, expected {asset_id!r}")
    return asset_id if present else None


def load_assets(layout: Layout, asset_id: str | None = None) -> tuple[str | None, dict[str, NormStats] | None]:
    """The normalisation statistics of a checkpoint.

    Args:
        layout: the checkpoint.
        asset_id: which ones; None takes the only ones there are.

    Returns:
        (asset id, statistics), both None when there are none.
    """
    chosen = _choose_asset(layout, asset_id)
    return chosen, load_norm_stats(layout.norm_stats(chosen)) if chosen is not None else None


def read_tokenizer(layout: Layout) -> bytes | None:
    """The checkpoint's own SentencePiece file, or None."""
    path = layout.tokenizer
    if not path.exists():
        return None
    if path.stat().st_size > MAX_TOKENIZER_BYTES:
        raise ModelError(f"{path}: found more than {MAX_TOKENIZER_BYTES} bytes, expected a SentencePiece model")
    return path.read_bytes()


def _load_params(layout: Layout, config: ModelConfig, dtype: Dtype | None) -> dict[str, Any]:
    import jax

    from robosteer_model.params import unflatten

    leaves = list_leaves(layout.params)
    check_leaves(leaves, expected_shapes(config), str(layout.root))
    target = config.dtype if dtype == "compute" else dtype
    flat: dict[str, Any] = {}
    # The largest leaf first: a reader may hold one decoded chunk besides what is already loaded.
    for leaf in sorted(leaves, key=lambda leaf: -leaf.nbytes):
        flat[leaf.path] = jax.device_put(read_leaf(layout.params, leaf, target))
    return unflatten(flat)


def load_checkpoint(
    path: str | os.PathLike[str],
    *,
    config: ModelConfig | str | None = None,
    dtype: Dtype | None = None,
    asset_id: str | None = None,
) -> Checkpoint:
    """Load a checkpoint of openpi or of RoboSteer.

    The directory is looked through for links and escapes before anything is opened; leaves are streamed one by one.

    Args:
        path: the step directory (with `params/`).
        config: the model or the name of a stock one; None takes the one in `robosteer.json`.
        dtype: cast every parameter while it is read; None keeps the stored dtypes.
        asset_id: which statistics to use when there are several.

    Returns:
        The checkpoint, its parameters on the default device.

    Raises:
        ModelError: for links, escapes, damaged files, and missing, unused or misshapen leaves.
    """
    layout = Layout.open(path)
    manifest = Manifest.read(layout.manifest)
    model = choose_config(config, manifest, layout.root)
    asset, stats = load_assets(layout, asset_id or manifest.asset_id)
    return Checkpoint(
        params=_load_params(layout, model, dtype),
        config=model,
        norm_stats=stats,
        asset_id=asset or asset_id or manifest.asset_id or DEFAULT_ASSET_ID,
        tokenizer=read_tokenizer(layout),
        data_layout=manifest.data_layout,
        rig=manifest.rig,
        action_convention=manifest.action_convention,
        provenance=manifest.provenance,
    )


def _manifest_text(checkpoint: Checkpoint, files: Mapping[str, str]) -> str:
    document = {
        "schema": SCHEMA,
        "model": checkpoint.config.to_json(),
        "asset_id": checkpoint.asset_id,
        "data_layout": checkpoint.data_layout,
        "rig": checkpoint.rig,
        "action_convention": dict(checkpoint.action_convention),
        "provenance": dict(checkpoint.provenance),
        "files": dict(files),
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_tree(root: Path) -> None:
    for directory, _, files in os.walk(root):
        for name in files:
            _sync(Path(directory) / name)
        _sync(Path(directory))


def _check_tree(checkpoint: Checkpoint) -> None:
    from robosteer_model.params import flatten

    leaves = [Leaf(path, path, tuple(leaf.shape), str(leaf.dtype)) for path, leaf in flatten(checkpoint.params).items()]
    check_leaves(leaves, expected_shapes(checkpoint.config), "to save")


def _write(root: Path, checkpoint: Checkpoint, value_level: bool) -> None:
    assets = root / ASSETS
    assets.mkdir(parents=True)
    write_tree(root / PARAMS, checkpoint.params, value_level=value_level)
    if checkpoint.norm_stats is not None:
        stats_dir = assets / checkpoint.asset_id
        stats_dir.mkdir(parents=True)
        (stats_dir / NORM_STATS_FILE).write_text(norm_stats_to_json(dict(checkpoint.norm_stats)))
    if checkpoint.tokenizer is not None:
        (assets / TOKENIZER_FILE).write_bytes(checkpoint.tokenizer)
    (root / MANIFEST_FILE).write_text(_manifest_text(checkpoint, file_digests(root)))


def check_free(path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """The absolute path of a checkpoint to be written; ask before long work.

    Raises:
        ModelError: something is there, and it may not be replaced, or is a link.
    """
    target = Path(path).expanduser().absolute()
    if target.is_symlink() or (target.exists() and not overwrite):
        raise ModelError(f"checkpoint: found something at {target}, expected a free name; remove it or choose another")
    return target


def save_checkpoint(
    path: str | os.PathLike[str], checkpoint: Checkpoint, *, overwrite: bool = False, value_level: bool = False
) -> Path:
    """Write a checkpoint; it appears under its name only when complete and on disk.

    Everything goes to `<path>.partial` first, is flushed, and is then renamed.

    Args:
        path: the directory to create.
        checkpoint: what to write; its leaves must fit its config.
        overwrite: replace an existing checkpoint of that name.
        value_level: add the `value` level below every leaf, as openpi's own training does.

    Returns:
        The absolute path.

    Raises:
        ModelError: when it exists already, the parameters do not fit the config, or the disk is full; what stood
            there before is intact.
    """
    target = check_free(path, overwrite=overwrite)
    _check_tree(checkpoint)
    partial = target.with_name(target.name + ".partial")
    _remove(partial)
    try:
        partial.mkdir(parents=True)
        _write(partial, checkpoint, value_level)
        _sync_tree(partial)
    except (OSError, ValueError, RuntimeError) as error:  # the store's own writer reports a full disk as either
        _remove(partial)
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise ModelError(
            f"checkpoint {target}: found {reason}, expected to write it; free some space or choose another place"
            + ("; the checkpoint of that name is intact" if target.exists() else "")
        ) from error
    old = target.with_name(target.name + ".replaced")
    if target.exists():
        _remove(old)
        target.rename(old)
    partial.rename(target)
    _sync(target.parent)
    _remove(old)
    return target


def _remove(path: Path) -> None:
    """Delete what an interrupted save left behind; a link is removed, never followed."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
