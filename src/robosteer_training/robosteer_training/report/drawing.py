"""How figures are drawn: one style that reads on light and on dark pages, the same bytes every time."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

GREY = "#8a8f98"
BLUE = "#3b82c4"
ORANGE = "#e07b39"
LABEL = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8}
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": GREY,
    "axes.labelcolor": GREY,
    "axes.edgecolor": GREY,
    "axes.titlecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_SCORES = {
    "knn": "k-NN error",
    "all": "k-NN error",
    "worst": "minus the k-NN error",
    "cma": "minus the rise of the loss",
    "reinforce": "1 - probability of staying",
    "classify": "minus the lead of the right centroid",
    "random": "random number",
}


def svg(name: str, size: tuple[float, float], draw: Callable[[Figure], None]) -> bytes:
    """Draw a figure of `size` inches as SVG; `name` salts its ids, so that the file is the same every time."""
    style: dict[Any, Any] = {**_STYLE, "svg.hashsalt": name}
    with mpl.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue().encode()


def data_url(data: bytes, kind: str) -> str:
    """`data` as a URL that can stand in a page."""
    return f"data:{kind};base64," + base64.b64encode(data).decode()


def score_label(method: str) -> str:
    """What the scores of a method are."""
    return f"{_SCORES.get(method, 'score')} (low is good)"
