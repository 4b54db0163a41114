"""`report.html`: everything about a steering run in one file that asks the network for nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2

from robosteer_training.dataset import Dataset
from robosteer_training.files import write_bytes
from robosteer_training.finetune.state import History
from robosteer_training.heads.selection import HeadSelection
from robosteer_training.report import figures

TEMPLATE = "report.html.j2"


def write_report(
    path: Path, summary: dict[str, Any], selection: HeadSelection | None, history: History, dataset: Dataset
) -> None:
    """Render the report in one piece.

    Args:
        path: the file.
        summary: see `summarise`.
        selection: scores and chosen heads; None when the recipe needs none.
        history: losses.
        dataset: for the thumbnails.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("robosteer_training.report", ""), autoescape=True, undefined=jinja2.StrictUndefined
    )
    text = environment.get_template(TEMPLATE).render(
        summary=summary,
        head_map=figures.head_map(selection) if selection else "",
        scores=figures.score_distribution(selection) if selection else "",
        loss=figures.loss_curve(history),
        times=figures.stage_times(summary["seconds"]),
        thumbnails=figures.thumbnails(dataset),
        everything=json.dumps(summary, indent=2),
    )
    write_bytes(path, text.encode())
