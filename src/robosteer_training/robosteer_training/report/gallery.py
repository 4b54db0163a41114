"""Nearest-neighbour galleries: a frame, the frames that a head finds most like it, and the actions of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robosteer_rig.errors import RobosteerError
from robosteer_training.dataset import Dataset
from robosteer_training.heads.knn import knn_problem
from robosteer_training.heads.neighbours import exact_similarity
from robosteer_training.heads.select import KnnSettings
from robosteer_training.heads.source import Source
from robosteer_training.report.drawing import BLUE, GREY, ORANGE, svg


@dataclasses.dataclass(frozen=True)
class Neighbourhood:
    """What one head finds for one frame.

    Attributes:
        query: frame of the dataset.
        found: (k,) frames, nearest first.
        similarity: (k,) cosine, or minus the squared distance.
        action: (A,) of the query, normalised.
        actions: (k, A) of the found.
    """

    query: int
    found: np.ndarray
    similarity: np.ndarray
    action: np.ndarray
    actions: np.ndarray


def neighbourhoods(
    source: Source, settings: KnnSettings, head: tuple[int, int], queries: Sequence[int], k: int
) -> list[Neighbourhood]:
    """Neighbours of some frames by one head, as scoring uses them.

    Args:
        source: one cache.
        settings: position and metric.
        head: (layer, head).
        queries: frames of the dataset.
        k: number of neighbours.

    Raises:
        RobosteerError: a frame that is not in the cache, or is not usable; a head that the model does not have.
    """
    problem = knn_problem(
        source.at(settings.position),
        source.actions,
        source.episode_index,
        ks=(k,),
        metric=settings.metric,
        rows=source.rows,
    )
    layers, heads = problem.shape
    if not (0 <= head[0] < layers and 0 <= head[1] < heads):
        raise RobosteerError(f"head: found {head}, expected a layer below {layers} and a head below {heads}")
    frame_of = source.caches[0].frame_index[source.rows]
    vectors, nearest = problem.layer(head[0])[head[1]], problem.neighbours(head[0])[head[1]]
    out = []
    for query in queries:
        at = np.flatnonzero(frame_of == query)
        if len(at) == 0:
            raise RobosteerError(
                f"frame: found {query}, expected one of the {len(frame_of)} usable frames of the cache "
                f"({frame_of[0]} ... {frame_of[-1]})"
            )
        similarity = exact_similarity(vectors[at], vectors[nearest[at]], settings.metric)[0]
        order = np.lexsort((nearest[at[0]], -similarity))
        rows = nearest[at[0]][order]
        out.append(
            Neighbourhood(int(query), frame_of[rows], similarity[order], problem.actions[at[0]], problem.actions[rows])
        )
    return out


def gallery(dataset: Dataset, camera: str, found: Sequence[Neighbourhood], title: str, shown: int = 6) -> bytes:
    """SVG: one line per query: its picture, its nearest frames, and the actions below.

    Args:
        dataset: for pictures, episodes and times.
        camera: which camera's pictures.
        found: queries with their neighbours.
        title: of the figure.
        shown: neighbours drawn; all of them predict.
    """
    if camera not in dataset.images:
        raise RobosteerError(f"--camera: found {camera!r}, expected one of {', '.join(dataset.images)}")
    shown = min(shown, len(found[0].found))

    def draw(figure: Figure) -> None:
        figure.suptitle(title, fontsize=9, color=GREY)
        grid = figure.subplots(2 * len(found), 2 + shown, squeeze=False, height_ratios=[2.2, 1] * len(found))
        for i, one in enumerate(found):
            pictures, bars = grid[2 * i], grid[2 * i + 1]
            _picture(pictures[0], dataset, camera, one.query, "query")
            _actions(bars[0], one.action, ORANGE)
            pictures[1].axis("off")
            mean = one.actions.mean(0)
            error = float(np.square(mean - one.action).sum())
            pictures[1].text(0.5, 0.5, f"mean of {len(one.found)}\nerror {error:.3f}", ha="center", va="center")
            _actions(bars[1], mean, BLUE)
            for j in range(shown):
                _picture(pictures[2 + j], dataset, camera, int(one.found[j]), f"{one.similarity[j]:.3f}")
                _actions(bars[2 + j], one.actions[j], GREY)

    return svg(f"gallery{title}", (1.15 * (2 + shown), 0.4 + 1.75 * len(found)), draw)


def _picture(axes: Axes, dataset: Dataset, camera: str, frame: int, text: str) -> None:
    episode = int(dataset.episode_index[frame])
    seconds = (frame - dataset.rows(episode).start) / dataset.rate_hz
    axes.imshow(dataset.images[camera][frame])
    axes.set_title(f"{text}\nepisode {episode}, {seconds:.1f} s", fontsize=6)
    axes.axis("off")


def _actions(axes: Axes, action: np.ndarray, colour: str) -> None:
    axes.bar(range(len(action)), action, color=colour)
    axes.axhline(0, color=GREY, linewidth=0.5)
    axes.set_ylim(-1.6, 1.6)
    axes.set_xticks([])
    axes.set_yticks([])
