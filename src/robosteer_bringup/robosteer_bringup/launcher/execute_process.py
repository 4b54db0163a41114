"""ExecuteProcess: the action that starts a program."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from robosteer_bringup.launcher.context import Entity, LaunchContext, ProcessSpec
from robosteer_bringup.launcher.description import Action
from robosteer_bringup.launcher.errors import LaunchError, UnsupportedConstructError
from robosteer_bringup.launcher.events import Answer, OnProcessExit
from robosteer_bringup.launcher.substitutions import LaunchConfiguration, SomeSubstitutions, perform

OUTPUTS = ("screen", "log", "both")
TIMEOUTS = {
    "sigterm_timeout": (5, "patience between SIGINT and SIGTERM when the stack is stopped, s"),
    "sigkill_timeout": (5, "patience between SIGTERM and SIGKILL, s"),
}
"""Launch arguments that every process knows: default and description."""


class ExecuteProcess(Action):
    """Starts a program in a process group of its own."""

    def __init__(
        self,
        *,
        cmd: Iterable[SomeSubstitutions],
        name: SomeSubstitutions | None = None,
        cwd: SomeSubstitutions | None = None,
        env: Mapping[Any, SomeSubstitutions] | None = None,
        additional_env: Mapping[Any, SomeSubstitutions] | None = None,
        output: SomeSubstitutions = "log",
        on_exit: Answer = None,
        respawn: bool = False,
        sigterm_timeout: SomeSubstitutions | float = LaunchConfiguration("sigterm_timeout", default=5),  # noqa: B008
        sigkill_timeout: SomeSubstitutions | float = LaunchConfiguration("sigkill_timeout", default=5),  # noqa: B008
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        if respawn:
            # A process that moves a robot must not come back by itself.
            raise UnsupportedConstructError(f"{type(self).__name__}(respawn=True)")
        if isinstance(output, Mapping):
            raise UnsupportedConstructError(f"{type(self).__name__}(output={{...}})")
        self.cmd = tuple(cmd)
        self.name = name
        self.cwd = cwd
        self.env = env
        self.additional_env = additional_env
        self.output = output
        self.exit_handler = None if on_exit is None else OnProcessExit(target_action=self, on_exit=on_exit)
        self.timeouts = (sigterm_timeout, sigkill_timeout)
        self._executed = False

    def execute(self, context: LaunchContext) -> None:
        """Start the program.

        Raises:
            LaunchError: if a value is not usable, or if the action is executed a second time.
        """
        if self._executed:
            raise LaunchError(f"{type(self).__name__}: found a second execution of one action, expected one")
        self._executed = True
        command = self.command(context)
        if not command:
            raise LaunchError(f"{type(self).__name__}: found an empty command, expected a program")
        sigterm_s, sigkill_s = (_seconds(context, value) for value in self.timeouts)
        spec = ProcessSpec(
            name=self.label(context, command),
            command=tuple(command),
            environment=self._environment(context),
            cwd=None if self.cwd is None else perform(context, self.cwd),
            output=self._output(context),
            sigterm_timeout_s=sigterm_s,
            sigkill_timeout_s=sigkill_s,
            node=self.node(context),
        )
        if self.exit_handler is not None:
            context.handlers.insert(0, self.exit_handler)
        context.start_process(spec, self)

    def command(self, context: LaunchContext) -> list[str]:
        """Return program and arguments."""
        return [perform(context, word) for word in self.cmd]

    def node(self, context: LaunchContext) -> tuple[str, str] | None:
        """Return package and executable of a ROS node, None for another program."""
        return None

    def label(self, context: LaunchContext, command: Sequence[str]) -> str:
        """Return the process's name on screen, without its number."""
        return os.path.basename(command[0]) if self.name is None else perform(context, self.name)

    def sub_entities(self) -> Sequence[Entity]:
        """Return what is executed when the process ends."""
        return () if self.exit_handler is None else self.exit_handler.sub_entities()

    def _environment(self, context: LaunchContext) -> dict[str, str]:
        environment = dict(context.environment)
        if self.env is not None:
            environment = _perform_mapping(context, self.env)
        return environment | _perform_mapping(context, self.additional_env or {})

    def _output(self, context: LaunchContext) -> str:
        output = perform(context, self.output)
        if output not in OUTPUTS:
            raise LaunchError(f"{type(self).__name__}: found output {output!r}, expected one of {', '.join(OUTPUTS)}")
        return output


def _perform_mapping(context: LaunchContext, mapping: Mapping[Any, SomeSubstitutions]) -> dict[str, str]:
    return {perform(context, name): perform(context, value) for name, value in mapping.items()}


def _seconds(context: LaunchContext, value: SomeSubstitutions | float) -> float:
    text = str(value) if isinstance(value, float | int) else perform(context, value)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise LaunchError(f"sigterm_timeout, sigkill_timeout: found {text!r}, expected seconds >= 0")
    return seconds
