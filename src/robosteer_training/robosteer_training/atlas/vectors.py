"""The value vectors of a checkpoint, and the embeddings that they are read with.

An FFN adds sum_i a_i(x) v_i to the residual stream: v_i, row i of its down-projection, is a value vector, and a_i its
coefficient (Geva et al. 2021). Here they are PaliGemma's, the only expert with a vocabulary.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from robosteer_model.checkpoint import Checkpoint
from robosteer_model.lora import merge_lora
from robosteer_model.params import flatten

# raw: plain dot products, as Haeon et al. (2025) read them. norm-folded: after the final norm's scale, as the model's
# own output would be read. centred: without the mean embedding, which every vector resembles. cosine: without lengths,
# as long embeddings otherwise come first everywhere.
Basis = Literal["raw", "norm-folded", "centred", "cosine"]


@dataclasses.dataclass(frozen=True)
class Readable:
    """What is read, and with what.

    Attributes:
        vectors: (L, F, D) float32 or bfloat16.
        embedding: (V, D), the same.
        final_norm: (D,) the final norm's factor, one plus its scale.
    """

    vectors: np.ndarray
    embedding: np.ndarray
    final_norm: np.ndarray

    @property
    def layers(self) -> int:
        """L."""
        return self.vectors.shape[0]

    @property
    def neurons(self) -> int:
        """F."""
        return self.vectors.shape[1]

    def layer(self, layer: int, basis: Basis) -> np.ndarray:
        """Vectors (F, D) float32 of a layer, as the basis wants them."""
        rows = np.asarray(self.vectors[layer], np.float32)
        if basis == "norm-folded":
            return rows * self.final_norm
        return _unit(rows) if basis == "cosine" else rows

    def tokens(self, basis: Basis) -> np.ndarray:
        """Embeddings (V, D) float32, as the basis wants them."""
        rows = np.asarray(self.embedding, np.float32)
        if basis == "centred":
            return rows - rows.mean(0)
        return _unit(rows) if basis == "cosine" else rows


def readable(checkpoint: Checkpoint) -> Readable:
    """The value vectors as the forward pass applies them: LoRA that is not merged counts."""
    params, _ = merge_lora(checkpoint.params, checkpoint.config)
    flat = flatten(params)
    return Readable(
        np.asarray(flat["PaliGemma/llm/layers/mlp/linear"]),
        np.asarray(flat["PaliGemma/llm/embedder/input_embedding"]),
        1 + np.asarray(flat["PaliGemma/llm/final_norm/scale"], np.float32),
    )


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
