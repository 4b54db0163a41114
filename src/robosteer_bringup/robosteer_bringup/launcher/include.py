"""Including one launch file from another."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from robosteer_bringup.launcher.actions import SetLaunchConfiguration
from robosteer_bringup.launcher.context import Entity, LaunchContext
from robosteer_bringup.launcher.description import Action, LaunchDescription
from robosteer_bringup.launcher.errors import LaunchError
from robosteer_bringup.launcher.loading import load_launch_file
from robosteer_bringup.launcher.substitutions import SomeSubstitutions, perform


class PythonLaunchDescriptionSource:
    """A Python launch file, loaded when its path is known."""

    def __init__(self, launch_file_path: SomeSubstitutions) -> None:
        self.location = launch_file_path

    def load(self, context: LaunchContext) -> tuple[Path, LaunchDescription]:
        """Return the file's absolute path and what it describes."""
        path = Path(os.path.abspath(perform(context, self.location)))
        return path, load_launch_file(path)


class _CurrentFile(Action):
    """Marks where an included file begins or ends, for ThisLaunchFileDir."""

    def __init__(self, path: Path | None) -> None:
        super().__init__()
        self.path = path

    def execute(self, context: LaunchContext) -> None:
        """Set the current file."""
        context.launch_file = self.path


class IncludeLaunchDescription(Action):
    """Visits another launch file with given arguments.

    As in the real launch the included file shares the arguments of the file that includes it: put the include
    into a GroupAction to keep what it sets from leaking out.
    """

    def __init__(
        self,
        launch_description_source: PythonLaunchDescriptionSource | SomeSubstitutions,
        *,
        launch_arguments: Iterable[tuple[SomeSubstitutions, SomeSubstitutions]] | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        if not isinstance(launch_description_source, PythonLaunchDescriptionSource):
            launch_description_source = PythonLaunchDescriptionSource(launch_description_source)
        self.source = launch_description_source
        self.arguments = tuple(launch_arguments or ())

    def execute(self, context: LaunchContext) -> Sequence[Entity]:
        """Return the arguments' setting and the included description."""
        path, description = self.source.load(context)
        settings = [SetLaunchConfiguration(name, value) for name, value in self.arguments]
        return [*settings, _CurrentFile(path), description, _CurrentFile(context.launch_file)]

    def load(self, context: LaunchContext) -> LaunchDescription | None:
        """Return the included description if its path can be known without running the launch."""
        try:
            return self.source.load(context)[1]
        except LaunchError:
            return None


def include_file(path: Path, values: Mapping[str, str]) -> LaunchDescription:
    """Return the description that runs a launch file with the given arguments."""
    settings = [SetLaunchConfiguration(name, value) for name, value in values.items()]
    return LaunchDescription([*settings, IncludeLaunchDescription(PythonLaunchDescriptionSource(path))])
