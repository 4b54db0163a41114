"""Pictures of an evaluation: the grid as seen by the operator, each cell with its success."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from robosteer_training.evaluation.result import Evaluation
from robosteer_training.evaluation.scenes import GRID_CELLS, GRID_COLUMNS, GRID_ROWS
from robosteer_training.evaluation.statistics import describe_rate
from robosteer_training.report.drawing import BLUE, GREY, ORANGE, svg


def overview(evaluation: Evaluation) -> bytes:
    """SVG: one 5 x 8 grid per task and variation; blue for success, orange for failure, the share of each."""
    groups = evaluation.by("task", "variation")
    columns = min(2, len(groups))
    rows = -(-len(groups) // columns)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (name, trials) in zip(grid, groups.items(), strict=False):
            counts: dict[int, list[bool]] = {}
            for trial in trials:
                counts.setdefault(trial.scene.grid_cell, []).append(trial.success)
            title = ", ".join(part for part in name if part)
            draw_grid(axes, counts, f"{title}\n{describe_rate(sum(t.success for t in trials), len(trials))}")
        for axes in grid[len(groups) :]:
            axes.axis("off")

    return svg("overview", (5.2 * columns, 3.4 * rows), draw)


def draw_grid(axes: Axes, counts: Mapping[int, Sequence[bool]], title: str) -> None:
    """One grid. Row 0 is nearest to the robot, which stands below; column 0 is on its right, as in the scenes."""
    for cell in range(GRID_CELLS):
        row, column = divmod(cell, GRID_COLUMNS)
        # Seen from behind the robot: its right-hand side, column 0, is on the right.
        x, results = GRID_COLUMNS - 1 - column, counts.get(cell, ())
        axes.add_patch(Rectangle((x, row), 1, 1, fill=False, edgecolor=GREY, linewidth=0.6))
        axes.text(x + 0.06, row + 0.9, str(cell), fontsize=6, va="top")
        if results:
            share = sum(results) / len(results)
            axes.add_patch(Rectangle((x + 0.12, row + 0.12), 0.76 * share, 0.5, color=BLUE))
            axes.add_patch(Rectangle((x + 0.12 + 0.76 * share, row + 0.12), 0.76 * (1 - share), 0.5, color=ORANGE))
            if len(results) > 1:
                label = f"{sum(results)}/{len(results)}"
                axes.text(x + 0.5, row + 0.37, label, fontsize=7, ha="center", va="center", color="white")
    axes.set_xlim(0, GRID_COLUMNS)
    axes.set_ylim(0, GRID_ROWS)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("robot")
    axes.set_title(title, fontsize=9)
