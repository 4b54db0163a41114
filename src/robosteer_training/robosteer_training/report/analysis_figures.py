"""From the JSON of an analysis to its figure."""

from __future__ import annotations

from typing import Any

from robosteer_rig.errors import RobosteerError
from robosteer_training.heads.selection import HeadSelection
from robosteer_training.report.head_figures import matrices, null_figure, rank_intervals, votes_figure


def figure_of(analysis: dict[str, Any], selection: HeadSelection | None) -> bytes:
    """SVG of an analysis; bootstrap and null show the heads of the selection.

    Raises:
        RobosteerError: an analysis without a figure, or one that needs a selection.
    """
    kind = analysis["kind"]
    if kind == "stability":
        panels = {f"best {x['m']} heads, Jaccard %": (analysis["names"], x["jaccard"]) for x in analysis["by_m"]}
        return matrices(panels)
    if kind == "overlap":
        return matrices({"shared heads, Jaccard %": (analysis["names"], analysis["jaccard"])})
    if kind == "redundancy":
        names = [f"({layer},{head})" for layer, head in analysis["heads"]]
        return matrices(
            {
                "linear CKA of outputs, %": (names, analysis["cka"]),
                "correlation of errors, %": (names, analysis["error_correlation"]),
            }
        )
    if kind == "classify":
        return votes_figure(analysis)
    if kind in ("bootstrap", "null"):
        if selection is None:
            raise RobosteerError(f"{kind}: found no --selections, expected the one that it was made for")
        draw = rank_intervals if kind == "bootstrap" else null_figure
        return draw(analysis, selection.heads)
    raise RobosteerError(f"analysis: found {kind!r}, which has no figure; `cv` is a table")
