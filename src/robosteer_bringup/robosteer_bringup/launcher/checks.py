"""What packages know about the parameters of their nodes, asked before any process is started.

A package announces a check in the entry-point group `robosteer.launch_checks`, under the name of the executable: a
callable that takes the node's parameters and raises `RobosteerError` for what the node would refuse after its start,
such as a checkpoint that is not there. It needs no ROS and must be quick.

`robosteer launch` asks for every launch file. For `ros2 launch`, which knows nothing of this, our launch files ask
themselves, by `check_first`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from robosteer_bringup.launcher.context import LaunchContext, ProcessSpec
from robosteer_bringup.launcher.errors import LaunchError
from robosteer_bringup.launcher.importer import launch_api
from robosteer_bringup.launcher.include import include_file
from robosteer_bringup.launcher.plan import make_plan
from robosteer_bringup.launcher.resolve import entry_points_of, with_ament_prefix
from robosteer_rig.errors import RobosteerError

if TYPE_CHECKING:
    from robosteer_bringup.launcher.description import LaunchDescription

GROUP = "robosteer.launch_checks"


def check_first(context: Any, file: str, **unread: str) -> None:
    """Check a launch file of ours before it starts anything; for an OpaqueFunction behind its arguments.

    Under `ros2 launch` the file is read once more, by the built-in launcher, with the arguments that it has got. Where
    that one runs it already, the checks have been made.

    Args:
        context: of the launch.
        file: the launch file.
        unread: arguments with another value for the checks, which keeps them from files that are not ours to read.

    Raises:
        LaunchError: as `check_launch`; `ros2 launch` shows it and ends with 1.
    """
    if isinstance(context, LaunchContext):
        return
    values = {name: value for name, value in context.launch_configurations.items() if isinstance(value, str)}
    with launch_api(), tempfile.TemporaryDirectory(prefix="robosteer_check_") as scratch:
        check_launch(include_file(Path(file), values | unread), with_ament_prefix(context.environment), Path(scratch))


def check_launch(description: LaunchDescription, environment: Mapping[str, str], scratch: Path) -> None:
    """Ask the package of every node that a description would start whether the node can work with its parameters.

    Args:
        description: its API must be open (`importer.launch_api`).
        environment: of the launch.
        scratch: directory for parameter files.

    Raises:
        LaunchError: the first complaint, with the name of the executable before it, and for what is wrong in the file.
    """
    for spec in make_plan(description, environment, scratch).processes:
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
