"""Value vectors whose nearest tokens include given words."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_training.atlas.store import Atlas


@dataclasses.dataclass(frozen=True)
class Found:
    """A value vector that answers.

    Attributes:
        layer: its layer.
        index: its number in the layer.
        hits: how many of the words' tokens are among its nearest.
        rank: the best place of one of them; 0 is the nearest token.
    """

    layer: int
    index: int
    hits: int
    rank: int


def word_tokens(atlas: Atlas, words: Sequence[str]) -> dict[str, list[int]]:
    """The tokens that are a word: with and without a space before it, in any case, and with a plural s.

    Raises:
        RobosteerError: a word that is no token; longer words are several tokens, which none of them means alone.
    """
    wanted = {word.casefold(): [] for word in words}
    for token in range(min(atlas.tokenizer.vocab_size, atlas.meta["vocabulary"])):
        text = atlas.tokenizer.piece(token).lstrip("▁").casefold()
        for form in {text, text.removesuffix("s")}:
            if form in wanted:
                wanted[form].append(token)
    if absent := [word for word, tokens in wanted.items() if not tokens]:
        raise RobosteerError(
            f"--words: found {absent}, expected words that are one token of this model; try a shorter or commoner one"
        )
    return wanted


def search(
    atlas: Atlas,
    words: Sequence[str],
    *,
    depth: int = 10,
    size: int = 10,
    layers: Collection[int] | None = None,
    excluded: Collection[tuple[int, int]] = (),
) -> list[Found]:
    """The value vectors with most of the words' tokens among their nearest, then by the best place, then by number.

    Args:
        atlas: where.
        words: seeds.
        depth: how many nearest tokens of a vector count.
        size: how many vectors at most.
        layers: only these; None for all.
        excluded: (layer, index) that do not count.
    """
    if not 0 < depth <= atlas.meta["k"]:
        raise RobosteerError(f"--depth: found {depth}, expected 1 to {atlas.meta['k']}, as many as the atlas keeps")
    seeds = np.array(sorted({token for tokens in word_tokens(atlas, words).values() for token in tokens}))
    found = []
    for layer in range(atlas.shape[0]) if layers is None else sorted(layers):
        hit = np.isin(atlas.layer(layer)[0][:, :depth], seeds)
        hits, rank = hit.sum(1), hit.argmax(1)
        found += [Found(layer, int(i), int(hits[i]), int(rank[i])) for i in np.flatnonzero(hits)]
    found = [f for f in found if (f.layer, f.index) not in set(excluded)]
    return sorted(found, key=lambda f: (-f.hits, f.rank, f.layer, f.index))[:size]
