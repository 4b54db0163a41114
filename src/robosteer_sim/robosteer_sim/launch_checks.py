"""What the cell's nodes would refuse after their start, for a launcher that asks first (`robosteer.launch_checks`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robosteer_rig.environment import Scene
from robosteer_rig.errors import RobosteerError
from robosteer_rig.places import require_writable
from robosteer_rig.rig import load_rig

DEFAULT_TASK = "pick up red cube"
"""Of the nodes."""


def cell(parameters: Mapping[str, Any]) -> None:
    """A rig that is this cell's arm, a scene and a controller that exist.

    Raises:
        RobosteerError: naming what is not.
    """
    from robosteer_sim.environment import check_rig
    from robosteer_sim.layout import check_scene

    check_rig(load_rig(parameters.get("rig", "")))
    check_scene(_scene(parameters, parameters.get("grid_cell", 0), parameters.get("seed", 0)))


def scripted_operator(parameters: Mapping[str, Any]) -> None:
    """Scenes that the scripted experts know, and at least one of them.

    Raises:
        RobosteerError: naming what is not so.
    """
    from robosteer_sim.layout import check_scene

    check_scene(_scene(parameters, 0, parameters.get("first_seed", 0)))
    if parameters.get("episodes", 1) < 1:
        raise RobosteerError(f"episodes: found {parameters['episodes']}, expected at least 1")


def trial_runner(parameters: Mapping[str, Any]) -> None:
    """Scenes that exist, and a result file that can be written.

    Raises:
        RobosteerError: naming what is not so.
    """
    from robosteer_sim.layout import check_scene

    cells, seed = parameters.get("grid_cells", []), parameters.get("first_seed", 0)
    if not isinstance(cells, list) or not all(isinstance(number, int) for number in cells):
        raise RobosteerError(f"grid_cells: found {cells!r}, expected a list of numbers such as [4, 13]")
    for number, place in enumerate(cells):
        check_scene(_scene(parameters, place, seed + number))
    require_writable(Path(parameters.get("out", "trials.json")), "out")


def _scene(parameters: Mapping[str, Any], cell: int, seed: int) -> Scene:
    return Scene(parameters.get("task", DEFAULT_TASK), cell, seed, parameters.get("variation", ""))
