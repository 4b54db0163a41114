"""An atlas on disk: the top tokens of every value vector of one checkpoint.

`atlas.json` says what it is, `tokenizer.model` turns ids into text, `layer_NN.npz` holds `ids` (F, k) int32 and
`scores` (F, k) float32 of a layer. Layers are written one by one, each whole or absent: an interrupted build goes on.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from robosteer_model.checkpoint import Checkpoint
from robosteer_model.digest import params_digest
from robosteer_model.tokenizer import SentencePiece, find_paligemma_model
from robosteer_rig.errors import RobosteerError
from robosteer_training.atlas.projection import top_tokens
from robosteer_training.atlas.vectors import Basis, readable
from robosteer_training.files import write_bytes, write_file, write_json

SCHEMA, MANIFEST, TOKENIZER = "robosteer.atlas/1", "atlas.json", "tokenizer.model"


@dataclasses.dataclass(frozen=True)
class Atlas:
    """A finished atlas.

    Attributes:
        path: its directory.
        meta: what `atlas.json` says.
        tokenizer: of its checkpoint.
    """

    path: Path
    meta: dict[str, Any]
    tokenizer: SentencePiece

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, value vectors per layer)."""
        return self.meta["layers"], self.meta["neurons"]

    def layer(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and scores (F, k) of a layer, best first."""
        with np.load(_layer_file(self.path, layer), allow_pickle=False) as data:
            return data["ids"], data["scores"]

    def text(self, token: int) -> str:
        """A token as people read it; ids beyond the tokenizer's have no text of their own."""
        if token >= self.tokenizer.vocab_size:
            return f"<{token}>"
        return self.tokenizer.piece(token).replace("\n", "\\n")


def build_atlas(
    path: Path,
    checkpoint: Checkpoint,
    *,
    k: int = 100,
    basis: Basis = "raw",
    progress: Callable[[int, int], None] | None = None,
) -> Atlas:
    """Read every value vector of PaliGemma in the vocabulary, or go on where it was interrupted.

    Args:
        path: of the atlas.
        checkpoint: whose vectors.
        k: tokens kept per vector.
        basis: how a vector is compared with a token.
        progress: called with (value vectors done, value vectors).

    Raises:
        RobosteerError: the place holds another atlas, or k is too large.
    """
    read = readable(checkpoint)
    if not 0 < k <= len(read.embedding):
        raise RobosteerError(f"--k: found {k}, expected 1 to {len(read.embedding)}, the size of the vocabulary")
    meta = {
        "schema": SCHEMA,
        "checkpoint": params_digest(checkpoint.params),
        "model_type": checkpoint.config.model_type,
        "layers": read.layers,
        "neurons": read.neurons,
        "vocabulary": len(read.embedding),
        "k": k,
        "basis": basis,
    }
    _claim(path, meta)
    tokenizer = checkpoint.tokenizer or find_paligemma_model().read_bytes()
    write_bytes(path / TOKENIZER, tokenizer)
    tokens, total = read.tokens(basis), read.layers * read.neurons
    for layer in range(read.layers):
        done = layer * read.neurons
        if not _layer_file(path, layer).exists():
            note = None if progress is None else lambda n, done=done: progress(done + n, total)
            ids, scores = top_tokens(read.layer(layer, basis), tokens, k, progress=note)
            write_file(_layer_file(path, layer), lambda file, i=ids, s=scores: np.savez(file, ids=i, scores=s))
    return load_atlas(path)


def load_atlas(path: Path) -> Atlas:
    """Open a finished atlas.

    Raises:
        RobosteerError: there is none, or it is not finished.
    """
    meta = _manifest(path)
    missing = [layer for layer in range(meta["layers"]) if not _layer_file(path, layer).exists()]
    if missing:
        raise RobosteerError(
            f"atlas {path}: found no layers {missing}, expected all {meta['layers']}; go on with robosteer atlas build"
        )
    return Atlas(path, meta, SentencePiece.from_file(path / TOKENIZER))


def _claim(path: Path, meta: dict[str, Any]) -> None:
    """Write the manifest, or see that it is the same."""
    if (path / MANIFEST).exists():
        known = _manifest(path)
        for field, value in meta.items():
            if known.get(field) != value:
                raise RobosteerError(
                    f"atlas {path}: {field}: found {known.get(field)}, expected {value}; choose another --out"
                )
    elif path.is_dir() and any(path.iterdir()):
        raise RobosteerError(f"atlas {path}: found other files, expected an empty directory or an atlas; choose --out")
    else:
        write_json(path / MANIFEST, meta)


def _manifest(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if meta["schema"] == SCHEMA and int(meta["layers"]) > 0:
            return meta
    except OSError as error:
        raise RobosteerError(
            f"atlas {path}: found no {MANIFEST} ({error.strerror}), expected one; make it with robosteer atlas build"
        ) from None
    except (ValueError, KeyError, TypeError):
        pass
    raise RobosteerError(f"atlas {path}: found a {MANIFEST} of another kind, expected schema {SCHEMA}")


def _layer_file(path: Path, layer: int) -> Path:
    return path / f"layer_{layer:02d}.npz"
