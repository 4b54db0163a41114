"""Success rates with intervals as SVG: one panel per task or condition, one line per policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robosteer_training.report.drawing import BLUE, GREY, ORANGE, svg


@dataclasses.dataclass(frozen=True)
class Rate:
    """One policy in one panel, all in per cent.

    Attributes:
        policy: name of the line.
        ours: measured; None where it is still to come.
        interval: of it.
        paper: the paper's, or None.
    """

    policy: str
    ours: float | None
    interval: tuple[float, float] | None = None
    paper: float | None = None


def success_figure(name: str, panels: Mapping[str, Sequence[Rate]]) -> bytes:
    """Draw the panels side by side, the first policy at the top.

    Args:
        name: salts the ids of the SVG.
        panels: title -> rates; a policy may be missing in some.
    """
    policies = list(dict.fromkeys(rate.policy for rates in panels.values() for rate in rates))
    at = {policy: number for number, policy in enumerate(policies)}
    size = (2.4 + 2.2 * len(panels), 1.2 + 0.3 * len(policies))

    def draw(figure: Figure) -> None:
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, (title, rates) in zip(grid, panels.items(), strict=True):
            _panel(axes, rates, at)
            axes.set_title(title, fontsize=9)
        grid[0].set_yticks(range(len(policies)), policies, fontsize=8)
        grid[0].set_ylim(len(policies) - 0.5, -0.5)
        if any(rate.paper is not None for rates in panels.values() for rate in rates):
            figure.legend(*_key(), loc="outside lower right", ncols=2, frameon=False, fontsize=8, labelcolor=GREY)

    return svg(name, size, draw)


def _panel(axes: Axes, rates: Sequence[Rate], at: Mapping[str, int]) -> None:
    for rate in rates:
        if rate.interval is not None:
            axes.plot(rate.interval, [at[rate.policy]] * 2, color=BLUE, linewidth=2, alpha=0.6)
        if rate.ours is not None:
            axes.plot(rate.ours, at[rate.policy], "o", color=BLUE, markersize=5)
        if rate.paper is not None:
            axes.plot(rate.paper, at[rate.policy], "D", color=ORANGE, markersize=5, fillstyle="none")
    axes.set_xlim(-4, 104)
    axes.set_xlabel("success, %", fontsize=8)
    axes.grid(axis="x", color=GREY, alpha=0.25)


def _key() -> tuple[list[Line2D], list[str]]:
    ours = Line2D([], [], color=BLUE, marker="o", markersize=5)
    paper = Line2D([], [], color=ORANGE, marker="D", markersize=5, fillstyle="none", linestyle="none")
    return [ours, paper], ["ours", "the paper's"]
