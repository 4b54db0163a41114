"""The grid as a sheet to print at true scale: cells, order of the placements, yaws."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from robosteer_training.evaluation.guided.plan import PlannedTrial, TrialPlan
from robosteer_training.evaluation.scenes import GRID_CELLS, GRID_COLUMNS, GRID_ROWS
from robosteer_training.files import write_bytes

Paper = Literal["a4", "a3", "a2"]
PAPERS_MM: dict[Paper, tuple[float, float]] = {"a4": (297, 210), "a3": (420, 297), "a2": (594, 420)}
WIDTH_MM, DEPTH_MM = 500.0, 280.0
"""Of the placement region: across the robot (8 columns) and away from it (5 rows)."""
MARGIN_MM = 10.0
_MM_PER_INCH = 25.4
_ARROW_MM = 20.0


def sheet_pages(plan: TrialPlan, paper: Paper) -> list[Figure]:
    """One figure per page of paper, as few as hold the region; pages meet at their frames without overlap."""
    width, height = PAPERS_MM[paper]
    inner = (width - 2 * MARGIN_MM, height - 2 * MARGIN_MM)
    across, deep = math.ceil(WIDTH_MM / inner[0]), math.ceil(DEPTH_MM / inner[1])
    tile = (WIDTH_MM / across, DEPTH_MM / deep)
    places = {trial.place: trial for trial in plan.trials}
    pages = []
    for row in reversed(range(deep)):
        for column in range(across):
            figure = Figure(figsize=(width / _MM_PER_INCH, height / _MM_PER_INCH))
            left, bottom = MARGIN_MM / width, MARGIN_MM / height
            axes = figure.add_axes((left, bottom, tile[0] / width, tile[1] / height))
            axes.set_xlim(column * tile[0], (column + 1) * tile[0])
            axes.set_ylim(row * tile[1], (row + 1) * tile[1])
            axes.set_xticks([])
            axes.set_yticks([])
            _draw(axes, list(places.values()))
            note = f"{plan.task} · page {len(pages) + 1} of {across * deep} · print at 100 %: the bar is 100 mm"
            figure.text(left, bottom / 3, note, fontsize=7)
            pages.append(figure)
    return pages


def _draw(axes: Axes, places: list[PlannedTrial]) -> None:
    """In mm, seen from behind the robot, whose side is below: column 0 is on its right."""
    size = (WIDTH_MM / GRID_COLUMNS, DEPTH_MM / GRID_ROWS)
    for cell in range(GRID_CELLS):
        x, y = _corner(cell)
        axes.add_patch(Rectangle((x, y), *size, fill=False, linewidth=0.5))
        axes.text(x + 2, y + size[1] - 2, str(cell), fontsize=9, va="top", clip_on=True)
        axes.plot(x + size[0] / 2, y + size[1] / 2, "+", color="black", markersize=5)
    for place in places:
        x, y = _corner(place.scene.grid_cell)
        x, y = x + size[0] / 2, y + size[1] / 2
        # Yaw 0 points away from the robot, which is up; positive turns left.
        angle = math.radians(place.yaw_deg)
        tip = (x - _ARROW_MM * math.sin(angle), y + _ARROW_MM * math.cos(angle))
        axes.annotate("", tip, (x, y), arrowprops={"arrowstyle": "->", "linewidth": 0.8}, annotation_clip=True)
        axes.text(*tip, f"{place.place + 1}", fontsize=7, ha="center", va="center", color="#b04a10", clip_on=True)
    axes.plot([5, 105], [3, 3], color="black", linewidth=1.5)
    axes.text(WIDTH_MM / 2, 4, "the robot's side", fontsize=8, ha="center", clip_on=True)


def _corner(cell: int) -> tuple[float, float]:
    row, column = divmod(cell, GRID_COLUMNS)
    return (GRID_COLUMNS - 1 - column) * WIDTH_MM / GRID_COLUMNS, row * DEPTH_MM / GRID_ROWS


def save_sheet(plan: TrialPlan, paper: Paper, path: Path) -> int:
    """Write the PDF; returns the number of pages."""
    buffer = io.BytesIO()
    with mpl.rc_context({"pdf.fonttype": 42}), PdfPages(buffer, metadata={"CreationDate": None}) as pdf:
        pages = sheet_pages(plan, paper)
        for figure in pages:
            pdf.savefig(figure)
    write_bytes(path, buffer.getvalue())
    return len(pages)
