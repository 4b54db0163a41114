"""Prompts and actions of pi0-FAST. The action tokens themselves come from a component that the user provides.

FAST (DCT, rounding, byte-pair encoding) is published as a HuggingFace processor that runs code of its repository. We
neither download nor execute it: anything with the two methods of `ActionTokens` can be plugged in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from robosteer_model.config import ModelConfig
from robosteer_model.errors import ModelError
from robosteer_model.tokenizer import SentencePiece, check_vocabulary, pad_tokens, state_text

# The last ids of PaliGemma's vocabulary are left out; action token t becomes vocab_size - 1 - SKIPPED_TOKENS - t.
SKIPPED_TOKENS = 128
ACTION_PREFIX = "Action: "
ACTION_END = "|"


class ActionTokens(Protocol):
    """Chunks of normalised actions to integer tokens and back."""

    def encode(self, actions: np.ndarray) -> Sequence[int]:
        """Tokens (>= 0) of a chunk (horizon, action_dim)."""
        ...

    def decode(self, tokens: Sequence[int], horizon: int, action_dim: int) -> np.ndarray:
        """The chunk (horizon, action_dim) of tokens."""
        ...


@dataclasses.dataclass(frozen=True)
class FastTokens:
    """One tokenized example (L = max_token_len).

    Attributes:
        tokens: (L,) int32.
        mask: (L,) bool, False on padding.
        ar_mask: (L,) int32, 1 on the part that is generated.
        loss_mask: (L,) bool, True on the part that is learned.
    """

    tokens: np.ndarray
    mask: np.ndarray
    ar_mask: np.ndarray
    loss_mask: np.ndarray


class FastTokenizer:
    """openpi's pi0-FAST format.

    Args:
        model: the SentencePiece model.
        max_token_len: L.
        action_tokens: the FAST component; None allows prompts without actions only.
    """

    def __init__(self, model: SentencePiece, max_token_len: int, action_tokens: ActionTokens | None = None) -> None:
        self.model = model
        self.max_token_len = max_token_len
        self._action_tokens = action_tokens

    @classmethod
    def for_config(
        cls, config: ModelConfig, model: SentencePiece, action_tokens: ActionTokens | None = None
    ) -> FastTokenizer:
        """The tokenizer of a pi0-FAST model.

        Raises:
            ModelError: when the tokenizer has more pieces than the model has embeddings.
        """
        check_vocabulary(config, model)
        return cls(model, config.max_token_len, action_tokens)

    @property
    def action_tokens(self) -> ActionTokens:
        """The FAST component.

        Raises:
            ModelError: when none was given.
        """
        if self._action_tokens is None:
            raise ModelError(
                "pi0_fast: found no FAST action tokenizer, expected an object with encode and decode (action_tokens=); "
                "its files (physical-intelligence/fast) are not part of RoboSteer"
            )
        return self._action_tokens

    def map_token(self, token: int) -> int:
        """FAST token to PaliGemma id and back (the map is its own inverse)."""
        return self.model.vocab_size - 1 - SKIPPED_TOKENS - token

    def tokenize(self, prompt: str, state: np.ndarray, actions: np.ndarray | None = None) -> FastTokens:
        """Tokens of one example.

        Args:
            prompt: the instruction.
            state: (d,) normalised and unpadded.
            actions: (horizon, action_dim) normalised, in training; None at inference.
        """
        text = prompt.lower().strip().replace("_", " ")
        prefix = self.model.encode(f"Task: {text}, State: {state_text(state)};\n", bos=True)
        postfix = [] if actions is None else self._postfix(actions)
        tokens, mask = pad_tokens(prefix + postfix, self.max_token_len, f"prompt {text!r}")
        position = np.arange(self.max_token_len)
        generated = (position >= len(prefix)) & (position < len(prefix) + len(postfix))
        return FastTokens(tokens, mask, generated.astype(np.int32), generated)

    def _postfix(self, actions: np.ndarray) -> list[int]:
        mapped = [self.map_token(int(t)) for t in self.action_tokens.encode(actions)]
        return self.model.encode(ACTION_PREFIX) + mapped + self.model.encode(ACTION_END, eos=True)

    def extract_actions(self, tokens: np.ndarray, horizon: int, action_dim: int) -> np.ndarray:
        """Actions out of generated ids; zeros when the text holds none, as openpi.

        Args:
            tokens: (steps,) generated PaliGemma ids (openpi returns them as floats).
            horizon: steps of the chunk.
            action_dim: numbers per step.

        Returns:
            (horizon, action_dim) normalised actions.
        """
        text = self.model.decode([int(t) for t in tokens])
        if ACTION_PREFIX not in text:
            return np.zeros((horizon, action_dim), np.float32)
        body = text.split(ACTION_PREFIX)[1].split(ACTION_END)[0].strip()
        ids = [self.map_token(t) for t in self.model.encode(body)]
        return self.action_tokens.decode(ids, horizon, action_dim)
