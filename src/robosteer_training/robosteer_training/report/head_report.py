"""One self-contained page about a selection: what was chosen, how sure that is, and what the heads look at."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_training.dataset import Dataset, load_dataset
from robosteer_training.files import write_bytes
from robosteer_training.frames import model_frames
from robosteer_training.heads.analysis import coefficient_of_variation, redundancy, stability
from robosteer_training.heads.attention import attention_maps
from robosteer_training.heads.by_running import open_matching
from robosteer_training.heads.classify import compare_groups
from robosteer_training.heads.cma import spread_rows
from robosteer_training.heads.select import KnnSettings, Progress
from robosteer_training.heads.selection import HeadSelection, dead_heads_warning
from robosteer_training.heads.source import Source
from robosteer_training.heads.uncertainty import bootstrap, permutation_null
from robosteer_training.report.analysis_figures import figure_of
from robosteer_training.report.drawing import data_url
from robosteer_training.report.gallery import gallery, neighbourhoods
from robosteer_training.report.head_figures import distributions, head_maps
from robosteer_training.report.overlays import png, stills

TEMPLATE = "head_report.html.j2"
_GALLERIES = 2


@dataclasses.dataclass(frozen=True)
class ReportInputs:
    """What the page is about.

    Attributes:
        source: activations.
        selection: the chosen heads.
        settings: how they were read.
        k: number of neighbours of the analyses.
        dataset: of the cache, for pictures.
        base: of the cache, for attention.
        samples: draws of the bootstrap.
        permutations: shuffles of the null.
    """

    source: Source
    selection: HeadSelection
    settings: KnnSettings
    k: int
    dataset: Path | None = None
    base: Path | None = None
    samples: int = 1000
    permutations: int = 200


def write_head_report(path: Path, inputs: ReportInputs, progress: Progress | None = None) -> dict[str, Any]:
    """Analyse and render in one piece; what the data do not allow is named on the page instead.

    Args:
        path: the file.
        inputs: what it is about.
        progress: called with (sections done, sections).

    Returns:
        Names of the sections, and what was left out and why.
    """
    made: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    sections = _sections(inputs)
    for i, (name, build) in enumerate(sections.items()):
        try:
            made[name] = build()
        except RobosteerError as error:
            left_out[name] = str(error)
        if progress is not None:
            progress(i + 1, len(sections))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("robosteer_training.report", ""), autoescape=True, undefined=jinja2.StrictUndefined
    )
    selection = inputs.selection
    text = environment.get_template(TEMPLATE).render(
        selection=selection,
        provenance=selection.provenance,
        cv=coefficient_of_variation(selection.scores),
        warning=dead_heads_warning(selection.heads, inputs.source.config),
        sections=made,
        left_out=left_out,
        everything=json.dumps(selection.to_json(), indent=2),
    )
    write_bytes(path, text.encode())
    return {"path": str(path), "sections": list(made), "left_out": left_out}


def _sections(inputs: ReportInputs) -> dict[str, Callable[[], dict[str, Any]]]:
    """Name -> what makes its figures, in the order of the page."""
    source, selection, settings, k = inputs.source, inputs.selection, inputs.settings, inputs.k
    named = {selection.method: selection}

    def analysed(kind: str, found: dict[str, Any]) -> dict[str, Any]:
        return {"figures": [_svg(figure_of({"kind": kind, **found}, selection))], "found": found}

    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "map": lambda: {"figures": [_svg(head_maps(named)), _svg(distributions(named))]},
        "bootstrap": lambda: analysed(
            "bootstrap", bootstrap(source, settings, selection.heads, k, samples=inputs.samples)
        ),
        "null": lambda: analysed("null", permutation_null(source, settings, k, permutations=inputs.permutations)),
        "clock": lambda: analysed(
            "null", permutation_null(source, settings, k, shuffle="swap", permutations=inputs.permutations)
        ),
        "stability": lambda: analysed("stability", stability(source, settings, _ms(selection))),
        "redundancy": lambda: analysed("redundancy", redundancy(source, settings, selection.heads, k)),
    }
    tasks = [task for task, rows in source.task_rows().items() if task and len(rows)]
    if len(tasks) > 1:
        sections["votes"] = lambda: analysed(
            "classify", compare_groups(source, settings, {selection.method: selection.heads}, positive=tasks[0])
        )
    if inputs.dataset is not None:
        dataset = inputs.dataset
        sections["neighbours"] = lambda: _galleries(inputs, dataset)
    if inputs.dataset is not None and inputs.base is not None:
        dataset, base = inputs.dataset, inputs.base
        sections["attention"] = lambda: _attention(inputs, dataset, base)
    return sections


def _svg(data: bytes) -> str:
    return data_url(data, "image/svg+xml")


def _ms(selection: HeadSelection) -> tuple[int, ...]:
    return (selection.m, min(2 * selection.m, selection.scores.size // 2)) if selection.m > 1 else (1,)


def _galleries(inputs: ReportInputs, path: Path) -> dict[str, Any]:
    dataset, source = _same_dataset(inputs.source, path), inputs.source
    frames = source.caches[0].frame_index[source.rows]
    queries = [int(frame) for frame in spread_rows(frames[len(frames) // 20 :], 3)]
    figures = []
    for layer, head in inputs.selection.heads[:_GALLERIES]:
        found = neighbourhoods(source, inputs.settings, (layer, head), queries, inputs.k)
        title = f"head ({layer},{head}), {inputs.settings.metric}, k = {inputs.k}"
        figures.append(_svg(gallery(dataset, next(iter(dataset.images)), found, title)))
    return {"figures": figures}


def _same_dataset(source: Source, path: Path) -> Dataset:
    dataset = load_dataset(path)
    if len(source.caches) != 1 or dataset.digest() != source.caches[0].meta["dataset_digest"]:
        raise RobosteerError(f"dataset: found {path}, expected the one of the (single) cache; give that one")
    return dataset


def _attention(inputs: ReportInputs, dataset: Path, base: Path) -> dict[str, Any]:
    data, checkpoint = open_matching(inputs.source, dataset, base)
    frames, told = model_frames(data, checkpoint), inputs.selection.settings
    own = data.rows(int(inputs.source.episode_index[inputs.source.rows[0]]))
    maps = attention_maps(
        checkpoint.params,
        checkpoint.config,
        frames,
        spread_rows(np.arange(own.start, own.stop), 16),
        inputs.selection.heads,
        position=told.get("position", "suffix.first"),
        noise_seed=told.get("noise_seed", 0),
        flow_time=told.get("flow_time", 1.0),
    )
    share = {slot: float(heat.sum((2, 3)).mean()) for slot, heat in maps.maps.items()}
    return {
        "figures": [data_url(png(stills(maps, frames.images, data.rate_hz)), "image/png")],
        "found": {"share": share},
    }
