"""Figures about heads as SVG: maps, distributions, matrices, intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from robosteer_training.heads.selection import HeadSelection
from robosteer_training.report.drawing import BLUE, GREY, LABEL, ORANGE, score_label, svg


def head_maps(selections: Mapping[str, HeadSelection], pictures: Mapping[str, np.ndarray] | None = None) -> bytes:
    """Scores of all heads, one map per selection side by side (the paper's Figures 4 and 8).

    Args:
        selections: by name; the chosen heads are framed and numbered by rank.
        pictures: uint8 (h, w, 3) of a task, by the same names, shown above its map.
    """
    layers, heads = next(iter(selections.values())).scores.shape
    pictures = pictures or {}
    above = 2.2 if pictures else 0.0
    size = (0.8 + len(selections) * max(2.6, 0.38 * heads + 0.9), 1.2 + 0.24 * layers + above)

    def draw(figure: Figure) -> None:
        rows = 2 if pictures else 1
        ratios = [above, size[1] - above] if pictures else [1]
        grid = figure.subplots(rows, len(selections), squeeze=False, height_ratios=ratios)
        for column, (name, selection) in enumerate(selections.items()):
            if pictures:
                grid[0, column].axis("off")
                if name in pictures:
                    grid[0, column].imshow(pictures[name])
            draw_map(grid[-1, column], selection)
            grid[0, column].set_title(name, fontsize=9)

    return svg("maps", size, draw)


def draw_map(axes: Axes, selection: HeadSelection) -> None:
    """One map: layers down, heads across."""
    layers, heads = selection.scores.shape
    image = axes.imshow(selection.scores, cmap="Blues_r", aspect="auto")
    for rank, (layer, head) in enumerate(selection.heads, 1):
        frame = Rectangle((head - 0.47, layer - 0.47), 0.94, 0.94, fill=False, edgecolor=ORANGE, linewidth=1.5)
        axes.add_patch(frame)
        axes.text(head, layer, str(rank), ha="center", va="center", color="black", fontsize=7, bbox=LABEL)
    axes.set_xlabel("head")
    axes.set_ylabel("layer")
    axes.set_xticks(range(heads))
    axes.set_yticks(range(layers))
    axes.figure.colorbar(image, ax=axes, label=score_label(selection.method))


def distributions(selections: Mapping[str, HeadSelection]) -> bytes:
    """Sorted scores of each selection; the chosen heads stand out."""

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(selections), 1, squeeze=False)[:, 0]
        for axes, (name, selection) in zip(grid, selections.items(), strict=True):
            order = np.argsort(selection.scores, axis=None, kind="stable")
            chosen = {layer * selection.scores.shape[1] + head for layer, head in selection.heads}
            values = selection.scores.ravel()[order]
            for picked, colour in ((False, BLUE), (True, ORANGE)):
                at = [i for i, flat in enumerate(order) if (int(flat) in chosen) == picked]
                axes.plot(at, values[at], "o", color=colour, markersize=3, label="chosen" if picked else "others")
            axes.set_title(name, fontsize=9)
            axes.set_ylabel(score_label(selection.method), fontsize=8)
        grid[0].legend(frameon=False, labelcolor=GREY)
        grid[-1].set_xlabel("heads by score")

    return svg("distributions", (6.4, 0.6 + 2.2 * len(selections)), draw)


def matrices(panels: Mapping[str, tuple[Sequence[str], Any]], *, low: float = 0.0) -> bytes:
    """Square tables of shares as heat maps, per cent written in, side by side (Figures 6 and 7).

    Args:
        panels: title -> (names, (S, S) values up to 1).
        low: value of the lightest colour.
    """
    sizes = [len(names) for names, _ in panels.values()]
    width = sum(max(2.4, 1.2 + 0.42 * n) for n in sizes)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (title, (names, values)) in zip(grid, panels.items(), strict=True):
            values = np.asarray(values, float)
            axes.imshow(values, cmap="Blues", vmin=low, vmax=1)
            if len(names) <= 24:
                for (row, column), value in np.ndenumerate(values):
                    dark = value > (1 + low) / 2
                    axes.text(
                        column,
                        row,
                        f"{100 * value:.0f}",
                        ha="center",
                        va="center",
                        fontsize=7,
                        color="white" if dark else "black",
                    )
            axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
            axes.set_yticks(range(len(names)), names, fontsize=7)
            axes.set_title(title, fontsize=9)

    return svg("matrices" + "".join(panels), (width, max(2.4, 1.4 + 0.42 * max(sizes))), draw)


def rank_intervals(found: Mapping[str, Any], heads: Sequence[tuple[int, int]]) -> bytes:
    """Of the chosen heads: chance to be chosen again (bars) and 90 % interval of the rank (lines)."""
    names = [f"({layer},{head})" for layer, head in heads]
    at = np.arange(len(heads))

    def of(key: str) -> np.ndarray:
        return np.array([found[key][layer][head] for layer, head in heads], float)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        left.barh(at, 100 * of("in_top_m"), color=BLUE)
        left.set_xlim(0, 100)
        left.set_xlabel(f"chance to be among the best {found['m']}, %")
        left.set_yticks(at, names, fontsize=8)
        left.invert_yaxis()
        right.hlines(at, of("rank_5") + 1, of("rank_95") + 1, color=GREY)
        right.plot(of("rank_median") + 1, at, "o", color=ORANGE, markersize=4)
        right.axvline(found["m"] + 0.5, color=GREY, linestyle=":", linewidth=1)
        right.set_xlabel("rank, median and 90 % interval")

    return svg("ranks", (7.4, 1.0 + 0.26 * len(heads)), draw)


def null_figure(found: Mapping[str, Any], heads: Sequence[tuple[int, int]]) -> bytes:
    """Real score of every head against its mean under shuffled actions; the line is what chance reaches at best."""
    scores, null = np.array(found["scores"]), np.array(found["null_mean"])
    chosen = np.zeros(scores.shape, bool)
    for head in heads:
        chosen[head] = True

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for picked, colour, label in ((~chosen, BLUE, "others"), (chosen, ORANGE, "chosen")):
            axes.plot(null[picked], scores[picked], "o", color=colour, markersize=4, label=label)
        axes.axhline(found["null_best_5_percent"], color=GREY, linestyle=":", label="best of a shuffle, 5 %")
        axes.set_xlabel("error with shuffled actions, mean")
        axes.set_ylabel("error with the real actions")
        axes.legend(frameon=False, labelcolor=GREY)

    return svg("null", (6.4, 3.2), draw)


def votes_figure(found: Mapping[str, Any]) -> bytes:
    """Accuracy and voting margin per group of heads (Table 6)."""
    groups = found["groups"]
    names = [row["group"] for row in groups]

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        left.barh(names, [100 * row["accuracy"] for row in groups], color=BLUE)
        left.set_xlim(0, 100)
        left.set_xlabel("accuracy, %")
        left.invert_yaxis()
        right.barh(names, [row["margin"] / row["heads"] for row in groups], color=ORANGE)
        right.set_xlabel("voting margin per head")

    return svg("votes", (6.8, 1.0 + 0.3 * len(groups)), draw)
