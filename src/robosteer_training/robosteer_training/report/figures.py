"""Figures of the report as data URLs (SVG, PNG); colours that read on light and on dark pages."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from robosteer_training.dataset import Dataset
from robosteer_training.finetune.state import History
from robosteer_training.heads.selection import HeadSelection
from robosteer_training.report.drawing import BLUE, GREY, ORANGE, data_url, svg
from robosteer_training.report.head_figures import distributions, head_maps

_THUMBNAIL = 96
_PER_ROW = 8


def _svg(name: str, size: tuple[float, float], draw: Callable[[Axes], None]) -> str:
    """Draw one axes and return a data URL."""
    return data_url(svg(name, size, lambda figure: draw(figure.subplots())), "image/svg+xml")


def head_map(selection: HeadSelection) -> str:
    """Scores of all heads; the chosen ones are framed and numbered by rank."""
    return data_url(head_maps({"": selection}), "image/svg+xml")


def score_distribution(selection: HeadSelection) -> str:
    """Sorted scores; the chosen heads stand out."""
    return data_url(distributions({"": selection}), "image/svg+xml")


def loss_curve(history: History) -> str:
    """Training loss per step (thin), its running mean, and the held-out loss."""
    steps = np.arange(1, len(history.loss) + 1)
    window = max(1, len(history.loss) // 50)
    smooth = np.convolve(history.loss, np.ones(window) / window, mode="valid")

    def draw(axes: Axes) -> None:
        axes.plot(steps, history.loss, color=BLUE, alpha=0.3, linewidth=0.8)
        axes.plot(steps[window - 1 :], smooth, color=BLUE, label="training")
        if history.heldout:
            axes.plot(*zip(*history.heldout, strict=True), "o-", color=ORANGE, markersize=4, label="held out")
        axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel("flow-matching loss")
        axes.legend(frameon=False, labelcolor=GREY)

    return _svg("loss", (6.4, 2.8), draw)


def stage_times(seconds: dict[str, float]) -> str:
    """Seconds per stage."""
    names = list(seconds)

    def draw(axes: Axes) -> None:
        axes.barh(names, [seconds[name] for name in names], color=BLUE)
        axes.invert_yaxis()
        axes.set_xlabel("seconds")
        for index, name in enumerate(names):
            axes.text(seconds[name], index, f" {seconds[name]:.1f}", va="center", fontsize=8)

    return _svg("times", (6.4, 0.8 + 0.28 * len(names)), draw)


def thumbnails(dataset: Dataset) -> str:
    """PNG data URL: first, middle and last frame of up to eight episodes, one column each, for every camera."""
    episodes = np.unique(np.linspace(0, len(dataset.episodes) - 1, _PER_ROW).round().astype(int))
    columns = []
    for episode in episodes:
        rows = dataset.rows(int(episode))
        picks = [rows.start, (rows.start + rows.stop - 1) // 2, rows.stop - 1]
        views = [stack[row] for stack in dataset.images.values() for row in picks]
        columns.append(np.concatenate([np.asarray(Image.fromarray(v).resize((_THUMBNAIL, _THUMBNAIL))) for v in views]))
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(columns, axis=1)).save(buffer, "PNG", optimize=True)
    return data_url(buffer.getvalue(), "image/png")
