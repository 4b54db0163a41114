"""Find the attention heads that carry a task: cache activations, select heads."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclasses.dataclass(frozen=True)
class Cache:
    """Run the model over every frame of a dataset and keep each head's output."""

    dataset: Path
    """Converted dataset."""
    base: Path
    """Checkpoint."""
    out: Path
    """Directory of the cache; an unfinished one of the same settings is continued."""
    positions: tuple[Literal["suffix.first", "prefix.last"], ...] = ("suffix.first",)
    """Token positions."""
    noise_seed: int = 0
    """Seed of the noise chunk that serves all frames."""
    flow_time: float = 1.0
    """Flow time; 1 is noise, the first step of sampling."""
    draws: int = 1
    """Noise chunks to average over."""
    json: bool = False
    """Print rows and MiB as JSON."""


@dataclasses.dataclass(frozen=True)
class Select:
    """Choose heads by k-NN regression of the actions."""

    cache: Path
    """Directory of a cache."""
    out: Path
    """Selection file to write (JSON)."""
    k: tuple[int, ...] = (10, 20, 30, 40)
    """Numbers of neighbours to try; the best is kept."""
    m: int | None = None
    """Number of heads; by default the paper's 20 of 144 in proportion."""
    metric: Literal["cosine", "euclidean"] = "cosine"
    """Distance between head outputs."""
    position: Literal["suffix.first", "prefix.last"] = "suffix.first"
    """Token position."""
    exclude_dead_heads: bool = False
    """Leave out the last layer's heads, which receive no gradient in pi0 and pi0.5."""
    json: bool = False
    """Print the selection as JSON."""


def main(argv: list[str]) -> int:
    """Entry point of `robosteer heads`."""
    chosen = tyro.cli(
        Annotated[Cache, tyro.conf.subcommand("cache")] | Annotated[Select, tyro.conf.subcommand("select")],
        args=argv,
        prog="robosteer heads",
    )
    text, data = _cache(chosen) if isinstance(chosen, Cache) else _select(chosen)
    if chosen.json:
        import json

        print(json.dumps(data))
    else:
        print(text)
    return 0


def _cache(arguments: Cache) -> tuple[str, dict[str, Any]]:
    from rich.progress import Progress

    from robosteer_model.checkpoint import load_checkpoint
    from robosteer_training.dataset import load_dataset
    from robosteer_training.export import params_digest
    from robosteer_training.frames import prepare_frames
    from robosteer_training.heads.cache import CacheSettings, fill_cache

    settings = CacheSettings(arguments.positions, arguments.noise_seed, arguments.flow_time, arguments.draws)
    dataset, base = load_dataset(arguments.dataset), load_checkpoint(arguments.base)
    with Progress(transient=True) as bar:
        task = bar.add_task("activations", total=len(dataset))
        cache = fill_cache(
            arguments.out,
            base.params,
            base.config,
            prepare_frames(dataset, base),
            settings,
            checkpoint_digest=params_digest(base.params),
            dataset_digest=dataset.digest(),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    stats = {"rows": cache.rows, "mib": cache.mib, "path": str(arguments.out)} | cache.meta["settings"]
    return f"{arguments.out}: {cache.rows} rows, {cache.mib:.2f} MiB per token position", stats


def _select(arguments: Select) -> tuple[str, dict[str, Any]]:
    from robosteer_training.heads.cache import load_cache
    from robosteer_training.heads.select import KnnSettings, select_by_knn
    from robosteer_training.heads.selection import dead_heads_warning

    a = arguments
    cache = load_cache(a.cache)
    settings = KnnSettings(a.k, a.m, a.metric, a.position, a.exclude_dead_heads)
    selection = select_by_knn(cache, settings)
    selection.save(a.out)
    chosen = ", ".join(f"({layer},{head})" for layer, head in selection.heads)
    lines = [f"{a.out}: {selection.m} of {selection.scores.size} heads, k = {selection.k}: {chosen}"]
    if dropped := selection.settings["dropped_ks"]:
        lines.append(f"k of {dropped} exceed the neighbours available and were left out")
    if warning := dead_heads_warning(selection.heads, cache.config):
        lines.append(f"warning: {warning}")
    return "\n".join(lines), selection.to_json()
