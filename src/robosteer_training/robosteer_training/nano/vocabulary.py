"""The nano's own SentencePiece model: whole words of the cell's instructions, and one piece per state bin."""

from __future__ import annotations

import io

import sentencepiece

from robosteer_training.nano.config import COLOURS, VOCAB_SIZE

# openpi's discretisation gives -1 to values below the range, so that is a bin too.
STATE_BINS = range(-1, 256)
_VERBS = ("pick up", "place", "push", "press", "grasp", "lift", "move", "put", "open", "close", "stack", "turn")
_NOUNS = ("cube", "mug", "cup", "bowl", "marker", "button", "box", "ball", "plate", "block")
_ADJECTIVES = (*COLOURS, "white", "black", "orange", "purple", "small", "large", "left", "right")
_RELATIONS = ("in", "on", "to", "next to", "into", "onto", "under", "behind", "hard", "slowly", "quickly")


def _sentences() -> list[str]:
    """A small corpus in the format of the pi0.5 prompt."""
    lines = []
    for verb in _VERBS:
        for noun in _NOUNS:
            for adjective in _ADJECTIVES:
                relation = _RELATIONS[len(lines) % len(_RELATIONS)]
                other = _NOUNS[(len(lines) * 7 + 3) % len(_NOUNS)]
                lines.append(f"Task: {verb} {adjective} {noun}, State: 0 1;")
                lines.append(f"Task: {verb} {adjective} {noun} {relation} {other}, State: 0 1;")
                lines.append("Action: ")
    return lines


def state_pieces() -> list[str]:
    """One piece per discretised state value, with SentencePiece's mark of a preceding space."""
    return [f"▁{value}" for value in STATE_BINS]


def train_tokenizer() -> bytes:
    """Train the tokenizer; deterministic.

    Returns:
        The serialised SentencePiece model, PaliGemma's special ids (pad 0, eos 1, bos 2, unk 3).
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(  # pyright: ignore[reportAttributeAccessIssue]
        sentence_iterator=iter(_sentences()),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCAB_SIZE,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        user_defined_symbols=["\n", *state_pieces()],
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()
