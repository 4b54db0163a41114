"""Subcommands of `robosteer heads` that draw."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_training.commands.heads_common import ReadsSelection
from robosteer_training.commands.progress import progress
from robosteer_training.commands.subcommands import Command

if TYPE_CHECKING:
    from robosteer_training.heads.selection import HeadSelection

Result = tuple[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plot(Command):
    """Draw head maps and score distributions of selections, and heat maps of analyses, as SVG."""

    out: Path
    """Directory of the figures."""
    selections: tuple[Path, ...] = ()
    """Selection files: side by side in maps.svg and distributions.svg."""
    analyses: tuple[Path, ...] = ()
    """Results of stability, overlap, redundancy, bootstrap, null or classify (their --out)."""
    dataset: Path | None = None
    """Dataset: a picture of the task stands above each map."""

    def run(self) -> Result:
        """Draw all."""
        from robosteer_training.files import write_bytes
        from robosteer_training.heads.results import read_analysis
        from robosteer_training.heads.selection import HeadSelection
        from robosteer_training.report.analysis_figures import figure_of
        from robosteer_training.report.head_figures import distributions, head_maps

        if not self.selections and not self.analyses:
            raise RobosteerError("plot: found nothing to draw, expected --selections or --analyses")
        chosen = {path.stem: HeadSelection.load(path) for path in self.selections}
        files: dict[str, bytes] = {}
        if chosen:
            if len({s.scores.shape for s in chosen.values()}) > 1:
                raise RobosteerError("--selections: found models of different sizes, expected one; draw them apart")
            files["maps.svg"] = head_maps(chosen, self._pictures(chosen))
            files["distributions.svg"] = distributions(chosen)
        for path in self.analyses:
            files[f"{path.stem}.svg"] = figure_of(read_analysis(path), next(iter(chosen.values()), None))
        for name, data in files.items():
            write_bytes(self.out / name, data)
        return f"{self.out}: {', '.join(files)}", {"files": [str(self.out / name) for name in files]}

    def _pictures(self, chosen: dict[str, HeadSelection]) -> dict[str, np.ndarray]:
        """First picture of each selection's task."""
        from robosteer_training.dataset import load_dataset

        if self.dataset is None:
            return {}
        dataset, pictures = load_dataset(self.dataset), {}
        camera = next(iter(dataset.images.values()))
        for name, selection in chosen.items():
            for episode, prompt in enumerate(dataset.prompts):
                if prompt in selection.provenance.get("tasks", ()):
                    pictures.setdefault(name, camera[dataset.rows(episode).start])
        return pictures


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attention(Command):
    """Draw what chosen heads look at over the camera images of an episode: stills, a film, a Rerun recording."""

    dataset: Path
    """Converted dataset."""
    base: Path
    """Checkpoint of the selection."""
    selection: Path
    """Selection file; its heads and its token position are drawn."""
    out: Path
    """Directory of the pictures."""
    episode: int = 0
    """Which episode."""
    stride: int = 1
    """Take every n-th frame."""
    film: bool = True
    """Write attention.mp4 too."""
    rerun: bool = False
    """Write attention.rrd too (needs rerun-sdk)."""

    def run(self) -> Result:
        """Run the model over the episode and draw."""
        from robosteer_training.files import write_bytes
        from robosteer_training.report.overlays import film, png, recording, stills

        if self.stride < 1:
            raise RobosteerError(f"--stride: found {self.stride}, expected 1 or more")
        dataset, frames, maps = self._maps()
        files = ["attention.png"]
        write_bytes(self.out / files[0], png(stills(maps, frames.images, dataset.rate_hz)))
        if self.rerun:
            files.append("attention.rrd")
            recording(self.out / files[-1], maps, frames.images, dataset.stamp_ns)
        if self.film:
            files.append("attention.mp4")
            with progress("film") as report:
                film(self.out / files[-1], maps, frames.images, dataset.rate_hz, self.stride, report)
        share = {slot: float(heat.sum((2, 3)).mean()) for slot, heat in maps.maps.items()}
        told = ", ".join(f"{slot} {100 * value:.0f} %" for slot, value in share.items())
        text = f"{self.out}: {', '.join(files)}; attention on {told}, elsewhere {100 * maps.elsewhere.mean():.0f} %"
        return text, {"files": [str(self.out / name) for name in files], "share": share, "frames": len(maps.rows)}

    def _maps(self) -> Any:
        from robosteer_model.checkpoint import load_checkpoint
        from robosteer_training.dataset import load_dataset
        from robosteer_training.export import params_digest
        from robosteer_training.frames import model_frames
        from robosteer_training.heads.attention import attention_maps
        from robosteer_training.heads.selection import HeadSelection

        dataset, base = load_dataset(self.dataset), load_checkpoint(self.base)
        selection = HeadSelection.load(self.selection)
        selection.check_model(base.config, params_digest(base.params))
        if not 0 <= self.episode < len(dataset.episodes):
            raise RobosteerError(f"--episode: found {self.episode}, expected 0 ... {len(dataset.episodes) - 1}")
        own, frames, told = dataset.rows(self.episode), model_frames(dataset, base), selection.settings
        with progress("attention") as report:
            maps = attention_maps(
                base.params,
                base.config,
                frames,
                np.arange(own.start, own.stop, self.stride),
                selection.heads,
                position=told.get("position", "suffix.first"),
                noise_seed=told.get("noise_seed", 0),
                flow_time=told.get("flow_time", 1.0),
                progress=report,
            )
        return dataset, frames, maps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gallery(ReadsSelection):
    """Draw frames with the frames that the chosen heads find most like them, and the actions of both."""

    dataset: Path
    """The dataset of the cache."""
    out: Path
    """Directory of the figures, one per head."""
    camera: str | None = None
    """Camera to show; by default the first."""
    heads: int = 3
    """How many of the chosen heads, from the best."""
    queries: tuple[int, ...] = ()
    """Frames of the dataset; by default four, evenly spread."""

    def run(self) -> Result:
        """Draw one figure per head."""
        from robosteer_training.dataset import load_dataset
        from robosteer_training.files import write_bytes
        from robosteer_training.heads.cma import spread_rows
        from robosteer_training.report.gallery import gallery, neighbourhoods

        source, selection, settings, k = self.open()
        if len(source.caches) != 1:
            raise RobosteerError(f"--cache: found {len(source.caches)}, expected one; its dataset is shown")
        dataset = load_dataset(self.dataset)
        if dataset.digest() != source.caches[0].meta["dataset_digest"]:
            raise RobosteerError(f"dataset: found {self.dataset}, expected the one of the cache; give that one")
        frames = source.caches[0].frame_index[source.rows]
        queries = self.queries or tuple(int(f) for f in spread_rows(frames[len(frames) // 20 :], 4))
        files = []
        for layer, head in selection.heads[: self.heads]:
            found = neighbourhoods(source, settings, (layer, head), queries, k)
            title = f"head ({layer},{head}), {settings.metric}, k = {k}"
            files.append(self.out / f"neighbours_{layer}_{head}.svg")
            write_bytes(files[-1], gallery(dataset, self.camera or next(iter(dataset.images)), found, title))
        return f"{self.out}: {', '.join(f.name for f in files)}", {"files": [str(f) for f in files]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report(ReadsSelection):
    """Everything about a selection in one self-contained HTML page."""

    out: Path
    """The page (HTML)."""
    dataset: Path | None = None
    """The dataset of the cache: adds neighbour galleries, and with --base attention."""
    base: Path | None = None
    """The checkpoint of the cache: adds attention."""
    samples: int = 1000
    """Draws of the bootstrap."""
    permutations: int = 200
    """Shuffles of the null."""

    def run(self) -> Result:
        """Analyse and write."""
        from robosteer_training.dataset import load_dataset
        from robosteer_training.report.head_report import ReportInputs, write_head_report

        source, selection, settings, k = self.open()
        if self.base is not None and self.dataset is None:
            raise RobosteerError("--base: found without --dataset, expected both; attention needs pictures")
        inputs = ReportInputs(source, selection, settings, k, self.dataset, self.base, self.samples, self.permutations)
        if self.dataset is not None:
            load_dataset(self.dataset)  # What a typing error names is refused; what does not fit is told on the page.
        with progress("report") as report:
            told = write_head_report(self.out, inputs, report)
        left_out = [f"left out: {name} ({why})" for name, why in told["left_out"].items()]
        return "\n".join([f"{self.out}: {', '.join(told['sections'])}", *left_out]), told
