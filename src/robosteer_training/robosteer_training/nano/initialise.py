"""Starting weights of the nano: openpi's initialisers, with two changes that a model trained from nothing needs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sentencepiece

from robosteer_model.config import ModelConfig
from robosteer_model.params import init_params
from robosteer_training.nano.vocabulary import STATE_BINS, state_pieces

_WAVES = 16


def state_bin_features(width: int) -> np.ndarray:
    """Smooth embeddings of the state bins, so that neighbouring bins start out alike.

    Args:
        width: embedding width D; at least 2 * 16 + 1.

    Returns:
        (257, D) float32, one row per bin, unit root mean square over the filled columns; other columns are zero.
    """
    position = np.linspace(-1, 1, len(STATE_BINS))
    waves = np.concatenate([[f(position * np.pi * 2 ** (i / 3)) for i in range(_WAVES)] for f in (np.sin, np.cos)])
    features = np.zeros((len(STATE_BINS), width), np.float32)
    features[:, 0] = position
    features[:, 1 : 1 + len(waves)] = waves.T
    return features


def initialise(config: ModelConfig, tokenizer: bytes, key: jax.Array) -> dict[str, Any]:
    """Random weights to pretrain from.

    openpi starts image tokens at zero (its SigLIP and Gemma are pretrained, only the bridge between them is new). Here
    nothing is, so the bridge starts as an ordinary dense layer; and state bins start on a smooth curve.

    Args:
        config: sizes.
        tokenizer: serialised SentencePiece model that has one piece per state bin.
        key: PRNG key.

    Returns:
        Parameters in openpi's tree, float32.
    """
    key_params, key_head, key_words = jax.random.split(key, 3)
    params = init_params(config, key_params)
    head = params["PaliGemma"]["img"]["head"]
    head["kernel"] = jax.nn.initializers.lecun_normal()(key_head, head["kernel"].shape, jnp.float32)

    pieces = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)  # pyright: ignore[reportCallIssue]
    ids = [pieces.piece_to_id(piece) for piece in state_pieces()]
    embedder = params["PaliGemma"]["llm"]["embedder"]
    shape = embedder["input_embedding"].shape
    # The network multiplies embeddings by sqrt(D): dividing here makes every token start with unit root mean square.
    table = jax.random.normal(key_words, shape) / np.sqrt(shape[1])
    embedder["input_embedding"] = table.at[jnp.array(ids)].set(state_bin_features(shape[1]) / np.sqrt(shape[1]))
    return params
