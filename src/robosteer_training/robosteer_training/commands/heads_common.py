"""What the subcommands of `robosteer heads` share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from robosteer_rig.errors import RobosteerError
from robosteer_training.commands.subcommands import Command

if TYPE_CHECKING:
    from robosteer_training.heads.select import KnnSettings
    from robosteer_training.heads.selection import HeadSelection
    from robosteer_training.heads.source import Source

DEFAULT_K = 20
Stream = Literal["suffix", "prefix"]
Token = Literal["first", "last", "mean"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadsCache(Command):
    """A subcommand that scores heads on cached activations."""

    cache: tuple[Path, ...]
    """Directories of caches; several must come from one checkpoint and the same settings."""
    k: tuple[int, ...] = (10, 20, 30, 40)
    """Numbers of neighbours to try; the best is kept."""
    m: int | None = None
    """Number of heads; by default the paper's 20 of 144 in proportion."""
    metric: Literal["cosine", "euclidean"] = "cosine"
    """Distance between head outputs."""
    stream: Stream = "suffix"
    """Tokens whose heads are read: the action expert's suffix, or PaliGemma's prefix."""
    token: Token | None = None
    """Token of the stream; by default first of the suffix, last of the prefix."""
    exclude_dead_heads: bool = False
    """Leave out the last layer's heads, which receive no gradient in pi0 and pi0.5."""

    def settings(self) -> KnnSettings:
        """How heads are scored."""
        from robosteer_training.heads.select import KnnSettings

        token = self.token or ("first" if self.stream == "suffix" else "last")
        return KnnSettings(self.k, self.m, self.metric, f"{self.stream}.{token}", self.exclude_dead_heads)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadsSelection(Command):
    """A subcommand that asks about a selection, with that selection's own settings."""

    cache: tuple[Path, ...]
    """Directories of caches of the selection's checkpoint; frames of other tasks than the selection's are left out."""
    selection: Path
    """Selection file; its token position, metric, k and excluded heads are used."""
    k: int | None = None
    """Number of neighbours; by default the selection's, or 20 where its method has none."""

    def open(self) -> tuple[Source, HeadSelection, KnnSettings, int]:
        """Activations of the selection's tasks, selection, its settings and k.

        Raises:
            RobosteerError: a selection that was made on another model.
        """
        from robosteer_training.heads.selection import HeadSelection

        source, selection = open_source(self.cache), HeadSelection.load(self.selection)
        selection.check_model(source.config, source.caches[0].meta["checkpoint_digest"])
        k = (selection.k or DEFAULT_K) if self.k is None else self.k
        return source.of_tasks(selection.provenance.get("tasks") or ()), selection, settings_of(selection), k


def open_source(paths: Sequence[Path]) -> Source:
    """The rows of one or several caches."""
    from robosteer_training.heads.cache import load_cache
    from robosteer_training.heads.source import Source

    if not paths:
        raise RobosteerError("--cache: found none, expected at least one directory")
    return Source.of(*(load_cache(path) for path in paths))


def settings_of(selection: HeadSelection) -> KnnSettings:
    """How a selection read activations."""
    from robosteer_training.heads.select import KnnSettings

    told = selection.settings
    return KnnSettings(
        ks=(selection.k or DEFAULT_K,),
        m=selection.m,
        metric=told.get("metric", "cosine"),
        position=told.get("position", "suffix.first"),
        exclude_dead_heads=bool(told.get("exclude_dead_heads", False)),
    )


def names_of(heads: Sequence[tuple[int, int]]) -> str:
    """Heads in one line."""
    return ", ".join(f"({layer},{head})" for layer, head in heads)
