"""Read the value vectors of PaliGemma's FFNs as words, search them, and make presets for live steering of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from robosteer_rig.errors import RobosteerError
from robosteer_rig.places import require_writable
from robosteer_training.commands.progress import progress
from robosteer_training.commands.subcommands import Command, run_subcommand


@dataclasses.dataclass(frozen=True, kw_only=True)
class Build(Command):
    """Find the nearest tokens of every value vector (about an hour for full-size models on two cores)."""

    base: Path
    """Checkpoint."""
    out: Path
    """Directory of the atlas; an unfinished one of the same settings is continued."""
    k: int = 100
    """Tokens kept per value vector."""
    basis: Literal["raw", "norm-folded", "centred", "cosine"] = "raw"
    """Dot products as in the paper; with the final norm's scale; without the mean embedding; or without lengths."""

    def run(self) -> tuple[str, dict[str, Any]]:
        """Build it."""
        from robosteer_model.checkpoint import load_checkpoint
        from robosteer_training.atlas.store import build_atlas

        base = load_checkpoint(self.base)
        with progress("value vectors") as report:
            atlas = build_atlas(self.out, base, k=self.k, basis=self.basis, progress=report)
        layers, neurons = atlas.shape
        return f"{self.out}: {layers} layers of {neurons} value vectors, {self.k} tokens each", atlas.meta


@dataclasses.dataclass(frozen=True, kw_only=True)
class Show(Command):
    """The nearest tokens of some value vectors."""

    atlas: Path
    """Directory of the atlas."""
    vectors: tuple[str, ...]
    """Which, as layer.index, such as 15.7522."""
    depth: int = 10
    """Tokens shown."""

    def run(self) -> tuple[str, dict[str, Any]]:
        """Look them up."""
        from robosteer_training.atlas.store import load_atlas

        atlas = load_atlas(self.atlas)
        data = {}
        for layer, index in vectors_of("--vectors", self.vectors, atlas.shape):
            ids, scores = (x[index, : self.depth] for x in atlas.layer(layer))
            pairs = zip(ids.tolist(), scores.tolist(), strict=True)
            data[f"{layer}.{index}"] = [{"token": atlas.text(i), "id": i, "score": s} for i, s in pairs]
        lines = [f"{name:>9}  {' '.join(t['token'] for t in tokens)}" for name, tokens in data.items()]
        return "\n".join(lines), data


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search(Command):
    """Value vectors whose nearest tokens include given words, and a preset of them."""

    atlas: Path
    """Directory of the atlas."""
    words: tuple[str, ...]
    """Seeds, each one token of the model (any case, with or without a space before, plural s)."""
    depth: int = 10
    """How many nearest tokens of a vector count."""
    size: int = 10
    """How many vectors at most."""
    layers: tuple[int, ...] = ()
    """Only these layers; by default all that can reach the actions."""
    exclude: tuple[str, ...] = ()
    """Vectors to leave out, as layer.index."""
    preset: Path | None = None
    """Write a preset for live steering: NAME.yaml."""
    alpha: float = 10.0
    """Coefficient that the preset gives them at full strength, activation units (the paper's is 10 for pi0-FAST)."""
    max_strength: float = 0.5
    """Largest strength that the preset allows, 0 to 1."""

    def run(self) -> tuple[str, dict[str, Any]]:
        """Search."""
        from robosteer_training.atlas.preset import write_preset
        from robosteer_training.atlas.search import search
        from robosteer_training.atlas.store import load_atlas

        atlas = load_atlas(self.atlas)
        total, flow = atlas.shape[0], atlas.meta["model_type"] != "pi0_fast"
        # The last layer's FFN feeds an output that pi0 and pi0.5 discard.
        layers = self.layers or tuple(range(total - 1 if flow else total))
        if wrong := [layer for layer in layers if not 0 <= layer < total]:
            raise RobosteerError(f"--layers: found {wrong}, expected 0 to {total - 1}")
        excluded = vectors_of("--exclude", self.exclude, atlas.shape)
        found = search(atlas, self.words, depth=self.depth, size=self.size, layers=layers, excluded=excluded)
        rows, lines = [], []
        for f in found:
            tokens = [atlas.text(int(token)) for token in atlas.layer(f.layer)[0][f.index, : self.depth]]
            rows.append(dataclasses.asdict(f) | {"tokens": tokens})
            name = f"{f.layer}.{f.index}"
            lines.append(f"{name:>9}  {f.hits} hits, best at {f.rank + 1}:  {' '.join(tokens)}")
        if self.preset is not None:
            require_writable(self.preset, "--preset")
            recipe = (
                f"words {', '.join(self.words)}; {len(found)} vectors by tokens among the nearest {self.depth} "
                f"({atlas.meta['basis']}); layers {min(layers)}-{max(layers)}; "
                f"without {', '.join(self.exclude) or 'none'}"
            )
            write_preset(self.preset, atlas, found, alpha=self.alpha, max_strength=self.max_strength, recipe=recipe)
            lines.append(
                f"{self.preset}: {len(found)} value vectors, alpha {self.alpha:g}, at most {self.max_strength:g}"
            )
        return "\n".join(lines) or "nothing found; try other words or more --depth", {"found": rows}


COMMANDS: dict[str, type[Command]] = {"build": Build, "show": Show, "search": Search}


def vectors_of(option: str, names: tuple[str, ...], shape: tuple[int, int]) -> list[tuple[int, int]]:
    """(layer, index) of words such as 15.7522.

    Raises:
        RobosteerError: another form, or one that the model does not have.
    """
    found = []
    for name in names:
        layer, _, index = name.partition(".")
        if not (layer.isdecimal() and index.isdecimal() and int(layer) < shape[0] and int(index) < shape[1]):
            raise RobosteerError(
                f"{option}: found {name!r}, expected LAYER.INDEX below {shape[0]}.{shape[1]}, such as 1.17"
            )
        found.append((int(layer), int(index)))
    return found


def main(argv: list[str]) -> int:
    """Entry point of `robosteer atlas`."""
    return run_subcommand("robosteer atlas", COMMANDS, argv)
