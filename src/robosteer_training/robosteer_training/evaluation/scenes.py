"""Which scenes are tried: cells of the placement grid, seeds, tasks, changes of the conditions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from robosteer_rig.environment import Scene
from robosteer_rig.errors import RobosteerError

GRID_ROWS, GRID_COLUMNS = 5, 8
GRID_CELLS = GRID_ROWS * GRID_COLUMNS
# Recordings count their scenes' seeds from 0. Evaluation begins above them: it must never try a scene that was shown.
FIRST_SEED = 10_007
ORDINARY = "none"
"""What a user writes for a scene without a variation."""


def spread_cells(count: int, total: int = GRID_CELLS) -> list[int]:
    """`count` different cells of `total`, spread evenly.

    Raises:
        RobosteerError: more than there are, or none.
    """
    if not 1 <= count <= total:
        raise RobosteerError(f"--cells: found {count}, expected 1 to {total}")
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def grid_cells(grid: str) -> list[int]:
    """Cells of a coarser grid, such as "3x4": so many rows and columns of the 5 x 8, spread evenly.

    Raises:
        RobosteerError: not of this form, or finer than 5 x 8.
    """
    found = re.fullmatch(r"(\d+)x(\d+)", grid)
    rows, columns = (int(n) for n in found.groups()) if found else (0, 0)
    if not (1 <= rows <= GRID_ROWS and 1 <= columns <= GRID_COLUMNS):
        raise RobosteerError(f"--grid: found {grid!r}, expected ROWSxCOLUMNS up to {GRID_ROWS}x{GRID_COLUMNS}")
    return [
        row * GRID_COLUMNS + column
        for row in spread_cells(rows, GRID_ROWS)
        for column in spread_cells(columns, GRID_COLUMNS)
    ]


def make_scenes(
    tasks: Sequence[str], cells: Sequence[int], seeds: Sequence[int], variations: Sequence[str] = ("",)
) -> list[Scene]:
    """Every task under every variation, with every seed in every cell; the same arguments give the same scenes.

    Raises:
        RobosteerError: a cell outside of the grid, a negative seed, or something given twice.
    """
    for cell in cells:
        if not 0 <= cell < GRID_CELLS:
            raise RobosteerError(f"grid cell: found {cell}, expected 0 to {GRID_CELLS - 1}")
    for name, values in {"task": tasks, "grid cell": cells, "seed": seeds, "variation": variations}.items():
        if not values or len(set(values)) != len(values):
            raise RobosteerError(f"{name}: found {list(values)}, expected at least one and none twice")
    if min(seeds) < 0:
        raise RobosteerError(f"seed: found {min(seeds)}, expected 0 or more")
    return [
        # The variation does not enter the seed, so that the same placements are tried under all of them.
        Scene(task, int(cell), (seed + 1) * FIRST_SEED + int(cell), "" if variation == ORDINARY else variation)
        for task in tasks
        for variation in variations
        for seed in seeds
        for cell in cells
    ]
