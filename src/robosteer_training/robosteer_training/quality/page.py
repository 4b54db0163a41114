"""The measurements of a dataset as one HTML file that asks the network for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from robosteer_training.dataset import Dataset
from robosteer_training.report.figures import thumbnails

TEMPLATE = "quality.html.j2"
_WIDTH, _HEIGHT = 220, 36


def render(dataset: Dataset, report: dict[str, Any], errors: list[str], warnings: list[str]) -> str:
    """The page's text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("robosteer_training.quality", ""), autoescape=True, undefined=jinja2.StrictUndefined
    )
    sparklines = []
    for index in range(len(dataset.episodes)):
        rows = dataset.rows(index)
        speed = np.linalg.norm(dataset.actions[rows, :7], axis=1)
        sparklines.append(_lines([speed / max(float(speed.max()), 1e-9), dataset.actions[rows, 7]]))
    return environment.get_template(TEMPLATE).render(
        report=report,
        errors=errors,
        warnings=warnings,
        sparklines=sparklines,
        thumbnails=thumbnails(dataset),
        cameras=list(dataset.images),
        bars=_bars,
    )


def _lines(curves: Sequence[np.ndarray]) -> Markup:
    """Curves in [0, 1] over each other."""
    colours = ("var(--accent)", "var(--soft)")
    parts = []
    for colour, curve in zip(colours, curves, strict=False):
        x = np.linspace(0, _WIDTH, len(curve))
        y = (1 - np.clip(curve, 0, 1)) * (_HEIGHT - 2) + 1
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
    return _svg("".join(parts))


def _bars(counts: Sequence[int]) -> Markup:
    """A histogram."""
    peak, width = max(*counts, 1), _WIDTH / len(counts)
    parts = []
    for i, count in enumerate(counts):
        height = _HEIGHT * count / peak
        parts.append(
            f'<rect x="{i * width:.1f}" y="{_HEIGHT - height:.1f}" width="{width - 1:.1f}" height="{height:.1f}" '
            'fill="var(--accent)"/>'
        )
    return _svg("".join(parts))


def _svg(content: str) -> Markup:
    # Numbers and constants only: nothing of this comes from the dataset's texts.
    return Markup(f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img">{content}</svg>')  # noqa: S704
