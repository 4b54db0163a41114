"""What packages know about the parameters of their nodes, asked before any process is started.

A package announces a check in the entry-point group `robosteer.launch_checks`, under the name of the executable: a
callable that takes the node's parameters and raises `RobosteerError` for what the node would refuse after its start,
such as a checkpoint that is not there. It needs no ROS and must be quick.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from robosteer_bringup.launcher.context import ProcessSpec
from robosteer_bringup.launcher.errors import LaunchError
from robosteer_bringup.launcher.resolve import entry_points_of
from robosteer_rig.errors import RobosteerError

GROUP = "robosteer.launch_checks"


def check_processes(processes: Iterable[ProcessSpec]) -> None:
    """Ask every node's package whether the node can work with its parameters.

    Raises:
        LaunchError: the first complaint, with the name of the executable before it.
    """
    for spec in processes:
        if spec.node is None:
            continue
        package, executable = spec.node
        check = entry_points_of(package, GROUP).get(executable)
        if check is None:
            continue
        try:
            check.load()(parameters(spec))
        except Exception as error:
            # A package's own class of user errors need not be ours.
            if isinstance(error, RobosteerError) or getattr(error, "user_error", False):
                raise LaunchError(f"{executable}: {str(error).removeprefix(f'{executable}: ')}") from error
            raise


def parameters(spec: ProcessSpec) -> dict[str, Any]:
    """Parameters of a node as its command line names them, with the types that the node will see."""
    found: dict[str, Any] = {}
    for flag, value in pairwise(spec.command):
        if flag == "--params-file":
            for content in (yaml.safe_load(Path(value).read_text(encoding="utf-8")) or {}).values():
                found |= content.get("ros__parameters", {})
    return found
