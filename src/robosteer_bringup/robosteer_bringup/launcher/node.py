"""Node and PushRosNamespace: the actions that know about ROS."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from robosteer_bringup.launcher.context import LaunchContext
from robosteer_bringup.launcher.description import Action
from robosteer_bringup.launcher.errors import LaunchError
from robosteer_bringup.launcher.execute_process import ExecuteProcess
from robosteer_bringup.launcher.parameters import (
    ParameterFile,
    SomeParameters,
    evaluate_dictionary,
    write_parameter_file,
)
from robosteer_bringup.launcher.resolve import resolve_executable
from robosteer_bringup.launcher.ros_names import check_namespace, check_node_name, join_namespaces
from robosteer_bringup.launcher.substitutions import SomeSubstitutions, perform


class PushRosNamespace(Action):
    """Puts the nodes that follow, within the same group, into a namespace."""

    def __init__(self, namespace: SomeSubstitutions, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.namespace = namespace

    def execute(self, context: LaunchContext) -> None:
        """Push the namespace."""
        joined = join_namespaces(context.ros_namespace, perform(context, self.namespace))
        context.ros_namespace = check_namespace(joined or "/")


class Node(ExecuteProcess):
    """Starts a ROS node with its name, namespace, parameters and remappings on the command line."""

    def __init__(
        self,
        *,
        executable: SomeSubstitutions,
        package: SomeSubstitutions | None = None,
        name: SomeSubstitutions | None = None,
        namespace: SomeSubstitutions | None = None,
        exec_name: SomeSubstitutions | None = None,
        parameters: SomeParameters | None = None,
        remappings: Iterable[tuple[SomeSubstitutions, SomeSubstitutions]] | None = None,
        ros_arguments: Iterable[SomeSubstitutions] | None = None,
        arguments: Iterable[SomeSubstitutions] | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(cmd=(), name=exec_name, **keywords)
        if parameters is not None and (isinstance(parameters, str | Mapping) or not isinstance(parameters, Sequence)):
            raise LaunchError(f"Node: found parameters={parameters!r}, expected a list of dictionaries and files")
        self.package = package
        self.executable = executable
        self.node_name = name
        self.namespace = namespace
        self.parameters = tuple(parameters or ())
        self.remappings = tuple(remappings or ())
        self.ros_arguments = tuple(ros_arguments or ())
        self.arguments = tuple(arguments or ())

    def command(self, context: LaunchContext) -> list[str]:
        """Return the node's complete command line, in the order of the real launch."""
        name = None if self.node_name is None else check_node_name(perform(context, self.node_name))
        own = None if self.namespace is None else perform(context, self.namespace)
        namespace = join_namespaces(context.ros_namespace, own)
        command = [*self._program(context), *(perform(context, word) for word in self.arguments)]
        if self.ros_arguments:
            command += ["--ros-args", *(perform(context, word) for word in self.ros_arguments)]
        command += ["--ros-args"]
        if name is not None:
            command += ["-r", f"__node:={name}"]
        if namespace is not None:
            command += ["-r", f"__ns:={check_namespace(namespace)}"]
        for path in self._parameter_files(context, name, namespace):
            command += ["--params-file", path]
        for source, target in self.remappings:
            command += ["-r", f"{perform(context, source)}:={perform(context, target)}"]
        return command

    def node(self, context: LaunchContext) -> tuple[str, str] | None:
        """Return package and executable."""
        return None if self.package is None else (perform(context, self.package), perform(context, self.executable))

    def label(self, context: LaunchContext, command: Sequence[str]) -> str:
        """Return the executable's name, also where an interpreter runs it."""
        if self.name is not None:
            return perform(context, self.name)
        return os.path.basename(perform(context, self.executable))

    def _program(self, context: LaunchContext) -> list[str]:
        executable = perform(context, self.executable)
        if self.package is None:
            return [executable]
        return resolve_executable(perform(context, self.package), executable, context.environment)

    def _parameter_files(self, context: LaunchContext, name: str | None, namespace: str | None) -> list[str]:
        # Without both parts the node's full name is unknown here, so the file is written for any node.
        key = "/**" if name is None or namespace is None else f"{namespace.rstrip('/')}/{name}"
        files: list[str] = []
        for source in self.parameters:
            if isinstance(source, Mapping):
                values = evaluate_dictionary(context, source)
                files.append(str(write_parameter_file(key, values, context.scratch)))
                continue
            path = perform(context, source.path if isinstance(source, ParameterFile) else source)
            if not Path(path).is_file():
                raise LaunchError(f"parameter file {path}: found no such file; check the path")
            files.append(path)
        return files
