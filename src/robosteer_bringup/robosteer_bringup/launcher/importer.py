"""The launch API as importable modules, for the launcher's own process only.

`launch` and `launch_ros` are in no package registry (the `launch` on PyPI is an unrelated program). While
`launch_api()` is open, importing them yields the subset below; anything else is refused by name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from robosteer_bringup.launcher import (
    actions,
    conditions,
    context,
    description,
    events,
    execute_process,
    include,
    logic,
    node,
    parameters,
    substitutions,
)
from robosteer_bringup.launcher import package_substitutions as packages
from robosteer_bringup.launcher.errors import UnsupportedConstructError

ROOTS = ("launch", "launch_ros")


def _public(*things: type) -> dict[str, Any]:
    return {thing.__name__: thing for thing in things}


SUBSET: Mapping[str, Mapping[str, Any]] = {
    "launch": _public(description.LaunchDescription, context.LaunchContext),
    "launch.actions": _public(
        actions.DeclareLaunchArgument,
        actions.EmitEvent,
        actions.GroupAction,
        actions.LogInfo,
        actions.OpaqueFunction,
        actions.RegisterEventHandler,
        actions.SetEnvironmentVariable,
        actions.SetLaunchConfiguration,
        actions.Shutdown,
        actions.TimerAction,
        execute_process.ExecuteProcess,
        include.IncludeLaunchDescription,
    ),
    "launch.conditions": _public(conditions.IfCondition, conditions.UnlessCondition),
    "launch.event_handlers": _public(events.OnProcessExit, events.OnProcessStart, events.OnShutdown),
    "launch.events": _public(events.Shutdown),
    "launch.launch_description_sources": _public(include.PythonLaunchDescriptionSource),
    "launch.substitutions": _public(
        logic.AndSubstitution,
        substitutions.Command,
        substitutions.EnvironmentVariable,
        logic.EqualsSubstitution,
        substitutions.FindExecutable,
        logic.IfElseSubstitution,
        substitutions.LaunchConfiguration,
        logic.NotEqualsSubstitution,
        logic.NotSubstitution,
        logic.OrSubstitution,
        substitutions.PathJoinSubstitution,
        logic.PythonExpression,
        substitutions.TextSubstitution,
        substitutions.ThisLaunchFile,
        substitutions.ThisLaunchFileDir,
    ),
    "launch_ros": {},
    "launch_ros.actions": {**_public(node.Node, node.PushRosNamespace), "PushROSNamespace": node.PushRosNamespace},
    "launch_ros.parameter_descriptions": _public(parameters.ParameterFile, parameters.ParameterValue),
    "launch_ros.substitutions": _public(packages.FindPackagePrefix, packages.FindPackageShare),
}
"""Every module and name that this launcher answers."""


class _StrictModule(ModuleType):
    """A module that refuses unknown names in words a user can act on."""

    def __getattr__(self, name: str) -> Any:
        # Import machinery asks for dunder names and for submodules; both must look absent, not refused.
        if name.startswith("__") or f"{self.__name__}.{name}" in SUBSET:
            raise AttributeError(name)
        raise UnsupportedConstructError(f"{self.__name__}.{name}")


class _SubsetFinder(MetaPathFinder, Loader):
    """Finds and builds the modules of SUBSET; refuses other modules below the same roots."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for the launch API, None for everything else."""
        if fullname.split(".")[0] not in ROOTS:
            return None
        if fullname not in SUBSET:
            raise UnsupportedConstructError(fullname)
        return ModuleSpec(fullname, self, is_package=fullname in ROOTS)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return an empty strict module."""
        return _StrictModule(spec.name, "Subset of the ROS 2 launch API.")

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module."""
        vars(module).update(SUBSET[module.__name__])
        vars(module)["__all__"] = sorted(SUBSET[module.__name__])


@contextmanager
def launch_api() -> Iterator[None]:
    """Make the subset importable; on leaving, the process is as before."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in ROOTS}
    finder = _SubsetFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.split(".")[0] in ROOTS]:
            del sys.modules[name]
        sys.modules.update(before)
