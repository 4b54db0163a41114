"""Prompts to tokens: PaliGemma's SentencePiece model, openpi's prompt formats, and state bins."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import sentencepiece

from robosteer_model.config import ModelConfig
from robosteer_model.errors import ModelError

logger = logging.getLogger(__name__)

PALIGEMMA_FILE = "paligemma_tokenizer.model"
PALIGEMMA_URL = "gs://big_vision/paligemma_tokenizer.model"
STATE_BINS = 256


def cache_dir() -> Path:
    """RoboSteer's per-user cache: `$ROBOSTEER_CACHE`, else `$XDG_CACHE_HOME/robosteer`, else `~/.cache/robosteer`."""
    if explicit := os.environ.get("ROBOSTEER_CACHE"):
        return Path(explicit).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "robosteer"


def find_paligemma_model() -> Path:
    """PaliGemma's SentencePiece file in RoboSteer's or openpi's cache.

    Raises:
        ModelError: when it is in neither; the message says where to put it.
    """
    openpi = Path(os.environ.get("OPENPI_DATA_HOME", "~/.cache/openpi")).expanduser()
    candidates = [cache_dir() / PALIGEMMA_FILE, openpi / "big_vision" / PALIGEMMA_FILE]
    for path in candidates:
        if path.is_file():
            return path
    places = " or ".join(str(path) for path in candidates)
    raise ModelError(f"tokenizer: found no PaliGemma model, expected {places}; copy {PALIGEMMA_URL} there")


class SentencePiece:
    """A SentencePiece model with PaliGemma's conventions (pad 0, eos 1, bos 2).

    Args:
        model: the serialised model.
        name: how error messages call it.

    Raises:
        ModelError: when the bytes are no SentencePiece model or have no BOS/EOS.
    """

    def __init__(self, model: bytes, name: str = "tokenizer") -> None:
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except (RuntimeError, OSError, ValueError) as error:
            raise ModelError(f"{name}: found no valid SentencePiece model ({error}); copy the file again") from None
        self.bos_id = int(self._processor.bos_id())
        self.eos_id = int(self._processor.eos_id())
        if self.bos_id < 0 or self.eos_id < 0:
            raise ModelError(f"{name}: found no BOS or EOS piece, expected PaliGemma's conventions")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> SentencePiece:
        """Read a `.model` file.

        Raises:
            ModelError: when it cannot be read or is no SentencePiece model.
        """
        try:
            return cls(Path(path).expanduser().read_bytes(), str(path))
        except OSError as error:
            raise ModelError(f"tokenizer {path}: found {error.strerror}, expected a SentencePiece model") from None

    @property
    def vocab_size(self) -> int:
        """Number of pieces."""
        return int(self._processor.vocab_size())

    def piece(self, token: int) -> str:
        """A token as its model writes it: "▁" stands for a space before."""
        return str(self._processor.id_to_piece(token))

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        """Token ids of a text, optionally with BOS before and EOS after."""
        ids = [int(i) for i in self._processor.encode(text)]
        return [self.bos_id] * bos + ids + [self.eos_id] * eos

    def decode(self, ids: list[int]) -> str:
        """The text of token ids; ids outside the vocabulary are left out."""
        return str(self._processor.decode([i for i in ids if 0 <= i < self.vocab_size]))


def load_sentencepiece(source: bytes | str | os.PathLike[str] | None = None) -> SentencePiece:
    """The tokenizer of a model.

    Args:
        source: a checkpoint's own model as bytes, a path, or None for PaliGemma's from the user's cache.
    """
    if isinstance(source, bytes):
        return SentencePiece(source, "the checkpoint's tokenizer.model")
    return SentencePiece.from_file(find_paligemma_model() if source is None else source)


def clean_prompt(prompt: str) -> str:
    """Stripped, '_' and newlines become spaces; case is kept."""
    return prompt.strip().replace("_", " ").replace("\n", " ")


def discretize_state(state: np.ndarray) -> np.ndarray:
    """Bins of normalised state values.

    Args:
        state: (d,) normalised, unpadded.

    Returns:
        (d,) int64: 0..255 over [-1, 1], -1 below, 255 above.
    """
    edges = np.linspace(-1, 1, STATE_BINS + 1)[:-1]
    return np.digitize(state, bins=edges) - 1


def state_text(state: np.ndarray) -> str:
    """The bins of a state, joined by single spaces."""
    return " ".join(str(int(b)) for b in discretize_state(state))


def pad_tokens(tokens: list[int], length: int, what: str = "prompt") -> tuple[np.ndarray, np.ndarray]:
    """Right-pad with id 0, or truncate with a warning.

    Returns:
        (tokens int32 (length,), mask bool (length,)).
    """
    if len(tokens) > length:
        logger.warning("%s: found %d tokens, expected at most %d; the end is cut off", what, len(tokens), length)
        tokens = tokens[:length]
    padding = length - len(tokens)
    mask = np.arange(length) < len(tokens)
    return np.array(tokens + [0] * padding, dtype=np.int32), mask


class PromptTokenizer:
    """Prompts of pi0 and pi0.5.

    Args:
        model: the SentencePiece model.
        max_token_len: prompt tokens after padding.
        discrete_state: write the state into the prompt (pi0.5).
    """

    def __init__(self, model: SentencePiece, max_token_len: int, *, discrete_state: bool) -> None:
        self.model = model
        self.max_token_len = max_token_len
        self.discrete_state = discrete_state

    @classmethod
    def for_config(cls, config: ModelConfig, model: SentencePiece) -> PromptTokenizer:
        """The tokenizer of a pi0 or pi0.5 model.

        Raises:
            ModelError: when the tokenizer has more pieces than the model has embeddings.
        """
        check_vocabulary(config, model)
        return cls(model, config.max_token_len, discrete_state=config.discrete_state_input)

    def tokenize(self, prompt: str, state: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of one prompt.

        Args:
            prompt: the instruction as the user wrote it.
            state: (d,) normalised and unpadded; needed when the state is written into the prompt.

        Returns:
            (tokens int32 (max_token_len,), mask bool (max_token_len,)).
        """
        text = clean_prompt(prompt)
        if not self.discrete_state:
            ids = self.model.encode(text, bos=True) + self.model.encode("\n")
        elif state is None:
            raise ModelError("tokenizer: found no state, expected one for a model that reads it from the prompt")
        else:
            ids = self.model.encode(f"Task: {text}, State: {state_text(state)};\nAction: ", bos=True)
        return pad_tokens(ids, self.max_token_len, f"prompt {text!r}")


def check_vocabulary(config: ModelConfig, model: SentencePiece) -> None:
    """Every piece has an embedding row.

    Raises:
        ModelError: when the tokenizer is larger than the model's table.
    """
    if model.vocab_size > config.vocab_size:
        raise ModelError(
            f"tokenizer: found {model.vocab_size} pieces, expected at most vocab_size={config.vocab_size}; "
            "use the tokenizer that belongs to the checkpoint"
        )
