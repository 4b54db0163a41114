"""Find the attention heads that carry a task: cache activations, select heads, ask how sure that is, draw it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from robosteer_rig.errors import RobosteerError
from robosteer_training.commands import heads_analysis, heads_pictures, heads_select
from robosteer_training.commands.progress import progress
from robosteer_training.commands.subcommands import Command, run_subcommand


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cache(Command):
    """Run the model over every frame of a dataset and keep each head's output (pi0, pi0.5 and pi0-FAST)."""

    out: Path
    """Directory of the cache; an unfinished one of the same settings is continued."""
    dataset: Path | None = None
    """Converted dataset; needed unless --stats."""
    base: Path | None = None
    """Checkpoint; needed unless --stats."""
    positions: tuple[Literal["suffix.first", "suffix.last", "suffix.mean", "prefix.last"], ...] = ("suffix.first",)
    """Token positions. pi0-FAST has suffix.first and prefix.last."""
    noise_seed: int = 0
    """Seed of the noise chunk that serves all frames."""
    flow_time: float = 1.0
    """Flow time; 1 is noise, the first step of sampling."""
    draws: int = 1
    """Noise chunks to average over."""
    stride: int = 1
    """Take every n-th frame of each episode."""
    block: int = 32
    """Frames per pass: more are faster where they fit into memory."""
    stats: bool = False
    """Only tell rows and MiB of the cache that lies at --out."""

    def run(self) -> tuple[str, dict[str, Any]]:
        """Fill or describe the cache."""
        from robosteer_training.heads.cache import load_cache

        cache = load_cache(self.out) if self.stats else self._fill()
        per_task = {e["instruction"]: 0 for e in cache.episodes}
        for index in cache.episode_index.tolist() if per_task else ():
            per_task[cache.episodes[index]["instruction"]] += 1
        stats = {
            "rows": cache.rows,
            "usable_rows": int(cache.usable.sum()),
            "mib": cache.mib,
            "path": str(self.out),
            "tasks": per_task,
            "backend": cache.meta["backend"],
        } | cache.meta["settings"]
        lines = [f"{self.out}: {cache.rows} rows, {cache.mib:.2f} MiB per token position"]
        if self.stats:
            lines += [f"  {name}: {value}" for name, value in stats.items() if name not in ("rows", "mib", "path")]
        return "\n".join(lines), stats

    def _fill(self) -> Any:
        from robosteer_model.checkpoint import load_checkpoint
        from robosteer_training.dataset import load_dataset
        from robosteer_training.export import params_digest
        from robosteer_training.frames import model_frames
        from robosteer_training.heads.cache import CacheSettings, describe_episodes, fill_cache

        if self.dataset is None or self.base is None:
            raise RobosteerError("cache: found no --dataset or --base, expected both, to run the model")
        settings = CacheSettings(
            self.positions, self.noise_seed, self.flow_time, self.draws, block=self.block, stride=self.stride
        )
        dataset, base = load_dataset(self.dataset), load_checkpoint(self.base)
        with progress("activations") as report:
            return fill_cache(
                self.out,
                base.params,
                base.config,
                model_frames(dataset, base),
                settings,
                checkpoint_digest=params_digest(base.params),
                dataset_digest=dataset.digest(),
                episodes=describe_episodes(dataset),
                progress=report,
            )


COMMANDS: dict[str, type[Command]] = {
    "cache": Cache,
    "select": heads_select.Select,
    "cv": heads_analysis.Cv,
    "stability": heads_analysis.Stability,
    "overlap": heads_analysis.Overlap,
    "classify": heads_analysis.Classify,
    "bootstrap": heads_analysis.Bootstrap,
    "null": heads_analysis.Null,
    "redundancy": heads_analysis.Redundancy,
    "plot": heads_pictures.Plot,
    "attention": heads_pictures.Attention,
    "gallery": heads_pictures.Gallery,
    "report": heads_pictures.Report,
}


def main(argv: list[str]) -> int:
    """Entry point of `robosteer heads`."""
    return run_subcommand("robosteer heads", COMMANDS, argv)
