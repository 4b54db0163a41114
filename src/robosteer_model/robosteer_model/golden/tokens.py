"""Checks prompt and FAST tokenization with the SentencePiece model that lies beside the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from robosteer_model.golden.model_file import Arrays, load_arrays
from robosteer_model.golden.report import Comparison, compare_exact, miss
from robosteer_model.tokenizer import PromptTokenizer, SentencePiece
from robosteer_model.tokenizer_fast import FastTokenizer

KEY = re.compile(r"(?P<kind>pi0|pi05|fast_train|fast_infer)/len(?P<length>\d+)/(?P<index>\d+)/(?P<what>\w+)")
INPUTS = frozenset({"prompts", "states", "fast_ids"})


class _FixedTokens:
    """Stands for FAST: openpi's numbers were made with these action tokens for every chunk."""

    def __init__(self, ids: np.ndarray) -> None:
        self._ids = [int(i) for i in ids]

    def encode(self, actions: np.ndarray) -> Sequence[int]:
        """The fixed tokens."""
        return self._ids

    def decode(self, tokens: Sequence[int], horizon: int, action_dim: int) -> np.ndarray:
        """Not needed here."""
        raise ValueError("these tokens stand for no actions")


def claims(keys: frozenset[str]) -> frozenset[str]:
    """Every key of a file with prompts and the size of their SentencePiece model."""
    return keys if {"prompts", "states", "sp_vocab_size"} <= keys else frozenset()


def check(path: Path) -> Iterator[Comparison]:
    """Compare every token, mask and the vocabulary size exactly."""
    arrays = load_arrays(path)
    model = SentencePiece.from_file(path.with_suffix(".model"))
    yield compare_exact("sp_vocab_size", model.vocab_size, arrays["sp_vocab_size"])
    for name, expected in arrays.items():
        match = KEY.fullmatch(name)
        if match:
            yield compare_exact(name, _found(arrays, model, match), expected)
        elif name not in INPUTS | {"sp_vocab_size"}:
            yield miss(name, "our code computes nothing of this name")


def _found(arrays: Arrays, model: SentencePiece, match: re.Match[str]) -> np.ndarray:
    kind, length, index = match["kind"], int(match["length"]), int(match["index"])
    prompt, state = str(arrays["prompts"][index]), arrays["states"][index]
    if kind.startswith("fast"):
        actions = np.zeros((1, 1)) if kind == "fast_train" else None
        example = FastTokenizer(model, length, _FixedTokens(arrays["fast_ids"])).tokenize(prompt, state, actions)
        return getattr(example, {"token_mask": "mask"}.get(match["what"], match["what"]))
    tokens, mask = PromptTokenizer(model, length, discrete_state=kind == "pi05").tokenize(prompt, state)
    return {"tokens": tokens, "mask": mask}[match["what"]]
