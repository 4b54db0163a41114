"""Subcommands of `robosteer heads` that ask how far a selection can be trusted."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from robosteer_rig.errors import RobosteerError
from robosteer_training.commands.heads_common import (
    ReadsCache,
    ReadsSelection,
    names_of,
    open_source,
)
from robosteer_training.commands.progress import progress
from robosteer_training.commands.subcommands import Command
from robosteer_training.heads.results import save_analysis

Result = tuple[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cv(ReadsCache):
    """Spread of the head scores, σ/μ, at every token position of the cache."""

    out: Path | None = None
    """File for the result (JSON)."""

    def run(self) -> Result:
        """Score every position of the cache."""
        from robosteer_training.heads.analysis import coefficient_of_variation
        from robosteer_training.heads.select import select_by_knn

        source, rows = open_source(self.cache), []
        for position in source.caches[0].meta["settings"]["positions"]:
            with progress(position) as report:
                found = select_by_knn(source, dataclasses.replace(self.settings(), position=position), report)
            scores = found.scores
            rows.append(
                {
                    "position": position,
                    "cv": coefficient_of_variation(scores),
                    "k": found.k,
                    "best": float(scores.min()),
                    "worst": float(scores.max()),
                }
            )
        data = save_analysis(self.out, "cv", {"model": source.config.model_type, "positions": rows}, source)
        lines = [
            f"{row['position']:13} cv {row['cv']:.3f}   scores {row['best']:.4f} to {row['worst']:.4f}   k = {row['k']}"
            for row in rows
        ]
        return "\n".join([source.config.model_type, *lines]), data


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stability(ReadsCache):
    """Choose heads on all episodes, two random halves, the first and the last half; compare the sets (Jaccard)."""

    ms: tuple[int, ...] = ()
    """Numbers of heads; by default --m and twice that."""
    out: Path | None = None
    """File for the result (JSON)."""

    def run(self) -> Result:
        """Select five times."""
        from robosteer_training.heads.analysis import stability
        from robosteer_training.heads.select import wanted_heads

        source, settings = open_source(self.cache), self.settings()
        gemma, m = source.config.paligemma, wanted_heads(source, settings)
        ms = self.ms or (m, min(2 * m, gemma.depth * gemma.num_heads // 2))
        wanted_heads(source, dataclasses.replace(settings, m=max(ms)))
        with progress("variants") as report:
            found = stability(source, settings, ms, report)
        data = save_analysis(self.out, "stability", found, source)
        lines = []
        for entry in found["by_m"]:
            lines += [f"best {entry['m']} heads, Jaccard %", *_matrix(found["names"], entry["jaccard"], 100)]
        return "\n".join(lines), data


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overlap(Command):
    """Compare selections of one model: shared heads (Jaccard) and rank correlation."""

    selections: tuple[Path, ...]
    """Selection files, for example of different tasks or methods."""
    out: Path | None = None
    """File for the result (JSON)."""

    def run(self) -> Result:
        """Compare."""
        from robosteer_training.heads.analysis import overlap
        from robosteer_training.heads.selection import HeadSelection

        if len({path.stem for path in self.selections}) != len(self.selections):
            raise RobosteerError("--selections: found two files of one name, expected distinct names; rename one")
        found = overlap({path.stem: HeadSelection.load(path) for path in self.selections})
        lines = ["shared heads, Jaccard %", *_matrix(found["names"], found["jaccard"], 100)]
        lines += ["rank correlation, %", *_matrix(found["names"], found["rank_correlation"], 100)]
        return "\n".join(lines), save_analysis(self.out, "overlap", found, None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classify(ReadsCache):
    """Let groups of heads vote which task (or outcome) a frame belongs to, on episodes they have not seen."""

    positive: str | None = None
    """The instruction (or outcome) to tell from the others; may be left out where there are two."""
    by: Literal["task", "outcome"] = "task"
    """What the classes are."""
    selections: tuple[Path, ...] = ()
    """Selection files whose heads vote too, for example those of k-NN."""
    seed: int = 0
    """Seed of the split and of the random group."""
    out: Path | None = None
    """File for the result (JSON)."""

    def run(self) -> Result:
        """Vote."""
        from robosteer_training.heads.classify import compare_groups
        from robosteer_training.heads.selection import HeadSelection

        source, groups = open_source(self.cache), {}
        for path in self.selections:
            selection = HeadSelection.load(path)
            selection.check_model(source.config, source.caches[0].meta["checkpoint_digest"])
            groups[path.stem] = selection.heads
        with progress("votes") as report:
            found = compare_groups(
                source, self.settings(), groups, positive=self.positive, by=self.by, seed=self.seed, progress=report
            )
        lines = [f"{found['positive']!r} against the others, {found['test_frames']} frames of other episodes"]
        lines += [
            f"{row['group']:12} {100 * row['accuracy']:6.2f} %   margin {row['margin']:6.2f} of {row['heads']}"
            for row in found["groups"]
        ]
        return "\n".join(lines), save_analysis(self.out, "classify", found, source)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bootstrap(ReadsSelection):
    """Draw the episodes again: chance of each head to be chosen, interval of its rank, and of the whole set."""

    samples: int = 1000
    """Draws."""
    seed: int = 0
    """Seed of the draws."""
    out: Path | None = None
    """File for the result (JSON)."""

    def run(self) -> Result:
        """Draw."""
        from robosteer_training.heads.uncertainty import bootstrap

        source, selection, settings, k = self.open()
        with progress("scores") as report:
            found = bootstrap(
                source, settings, selection.heads, k, samples=self.samples, seed=self.seed, progress=report
            )
        chance, low, high = found["in_top_m"], found["rank_5"], found["rank_95"]
        lines = [f"chance to be among the best {found['m']} (k = {k}), and 90 % interval of the rank"]
        lines += [
            f"  ({layer},{head})  {100 * chance[layer][head]:5.1f} %   {low[layer][head] + 1:.0f} to "
            f"{high[layer][head] + 1:.0f}"
            for layer, head in selection.heads
        ]
        whole = found["chosen_set_jaccard"]
        lines.append(
            f"the set: Jaccard {100 * whole['mean']:.0f} % ({100 * whole['p5']:.0f} to {100 * whole['p95']:.0f} %), "
            f"the very same in {100 * found['chosen_set_again']:.0f} % of the draws"
        )
        return "\n".join(lines), save_analysis(self.out, "bootstrap", found, source)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Null(ReadsSelection):
    """Shuffle the actions across episodes: a p-value for every head."""

    shuffle: Literal["rotate", "swap"] = "rotate"
    """rotate: do heads know anything about the actions? swap (actions of another episode at the same share of its
    length): do they know more than how far the episode has come?"""
    permutations: int = 200
    """Shuffles; the smallest possible p-value is 1 / (1 + this)."""
    seed: int = 0
    """Seed of the shuffles."""
    out: Path | None = None
    """File for the result (JSON)."""

    def run(self) -> Result:
        """Shuffle."""
        from robosteer_training.heads.uncertainty import permutation_null

        source, selection, settings, k = self.open()
        with progress("scores") as report:
            found = permutation_null(
                source,
                settings,
                k,
                shuffle=self.shuffle,
                permutations=self.permutations,
                seed=self.seed,
                progress=report,
            )
        total = selection.scores.size
        lines = [f"{found['significant']} of {total} heads predict better than chance (family-wise p <= 0.05, k = {k})"]
        lines += [
            f"  ({layer},{head})  p = {found['p'][layer][head]:.4f}   family-wise {found['p_family'][layer][head]:.4f}"
            for layer, head in selection.heads
        ]
        return "\n".join(lines), save_analysis(self.out, "null", found, source)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Redundancy(ReadsSelection):
    """How much the chosen heads say the same: CKA of their outputs, correlation of their errors."""

    out: Path | None = None
    """File for the result (JSON)."""

    def run(self) -> Result:
        """Compare all pairs."""
        from robosteer_training.heads.analysis import redundancy

        source, selection, settings, k = self.open()
        found = redundancy(source, settings, selection.heads, k)
        names = [names_of([head]) for head in selection.heads]
        lines = ["linear CKA of the outputs, %", *_matrix(names, found["cka"], 100)]
        lines += ["correlation of the errors, %", *_matrix(names, found["error_correlation"], 100)]
        return "\n".join(lines), save_analysis(self.out, "redundancy", found, source)


def _matrix(names: list[str], values: list[list[float]], factor: float) -> list[str]:
    """Lines of a square table."""
    width = max(8, *(len(name) for name in names)) + 1
    head = " " * width + "".join(f"{name:>{width}}" for name in names)
    rows = [
        f"{name:<{width}}" + "".join(f"{factor * x:>{width}.0f}" for x in row)
        for name, row in zip(names, values, strict=True)
    ]
    return [head, *rows]
