"""The text that explains the arguments of a launch file: `--show-args` and `--help`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping

from robosteer_bringup.launcher.actions import DeclareLaunchArgument
from robosteer_bringup.launcher.context import LaunchContext
from robosteer_bringup.launcher.errors import LaunchError
from robosteer_bringup.launcher.execute_process import TIMEOUTS
from robosteer_bringup.launcher.logic import EqualsSubstitution, IfElseSubstitution
from robosteer_bringup.launcher.plan import Plan
from robosteer_bringup.launcher.substitutions import (
    LaunchConfiguration,
    PathJoinSubstitution,
    SomeSubstitutions,
    Substitution,
    TextSubstitution,
    describe,
    normalize,
    perform,
)


def describe_arguments(
    declared: Iterable[DeclareLaunchArgument],
    given: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Return the text of `--show-args`.

    Defaults are shown as a user would type them: what they come to with the arguments that are given, and what they
    come to with the others that they ask for.

    Args:
        declared: the arguments.
        given: values from the command line; a default may depend on them.
        environment: of the launch; None takes this process's.
    """
    context = LaunchContext(runtime=Plan(), environment=dict(os.environ if environment is None else environment))
    context.launch_configurations |= given or {}
    lines = []
    for argument in declared:
        lines += ["", f"    {argument.name}:", f"        {argument.description}"]
        if argument.choices is not None:
            lines.append(f"        one of: {', '.join(map(shlex.quote, argument.choices))}")
        if argument.default_value is not None:
            lines.append(f"        (default: {_default(argument.default_value, context)})")
            _take_default(argument, context)
    if not lines:
        lines = ["", "    none"]
    for name, (seconds, text) in TIMEOUTS.items():
        lines += ["", f"    {name}:", f"        {text}", f"        (default: {seconds})"]
    return "\n".join(["Arguments (pass them as name:=value):", *lines])


def _default(value: SomeSubstitutions, context: LaunchContext) -> str:
    try:
        text = perform(context, value)
    except LaunchError:  # Known only when the launch runs.
        return describe(value)
    others = []
    for name, wanted in dict.fromkeys(_switches(value, context)):
        context.push_scope()
        context.launch_configurations[name] = wanted
        other = perform(context, value)
        context.pop_scope()
        if other != text:
            others.append(f"; with {name}:={wanted}: {shlex.quote(other)}")
    return shlex.quote(text) + "".join(others)


def _take_default(argument: DeclareLaunchArgument, context: LaunchContext) -> None:
    """Let the defaults of later arguments see this one's."""
    if argument.name not in context.launch_configurations and argument.default_value is not None:
        try:
            context.launch_configurations[argument.name] = perform(context, argument.default_value)
        except LaunchError:
            return


def _switches(value: SomeSubstitutions, context: LaunchContext) -> Iterator[tuple[str, str]]:
    """Arguments, with a value, that a text depends on by a condition."""
    for part in normalize(value):
        if isinstance(part, PathJoinSubstitution):
            for inner in part.parts:
                yield from _switches(inner, context)
        elif isinstance(part, IfElseSubstitution):
            for condition in normalize(part.condition):
                yield from _asked(condition, context)
            yield from _switches(part.if_value, context)
            yield from _switches(part.else_value, context)


def _asked(condition: Substitution, context: LaunchContext) -> Iterator[tuple[str, str]]:
    """The argument that a condition asks for, with the value that makes it true."""
    if isinstance(condition, LaunchConfiguration):
        yield perform(context, condition.variable_name), "true"
    elif type(condition) is EqualsSubstitution:
        sides = [*normalize(condition.left), *normalize(condition.right)]
        names = [side for side in sides if isinstance(side, LaunchConfiguration)]
        texts = [side for side in sides if isinstance(side, TextSubstitution)]
        if len(names) == len(texts) == 1:
            yield perform(context, names[0].variable_name), texts[0].text
