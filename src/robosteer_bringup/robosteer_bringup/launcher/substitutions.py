"""Text that is known only when the launch runs."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from robosteer_bringup.launcher.context import LaunchContext
from robosteer_bringup.launcher.errors import LaunchError, UnsupportedConstructError

TRUE_TEXTS = ("true", "1")
FALSE_TEXTS = ("false", "0")


class Substitution(ABC):
    """Text to be produced from a context."""

    @abstractmethod
    def perform(self, context: LaunchContext) -> str:
        """Return the text."""

    def describe(self) -> str:
        """Say what will be inserted, for `--show-args`."""
        return type(self).__name__


SomeSubstitutions: TypeAlias = "str | Path | Substitution | Iterable[str | Path | Substitution]"


class TextSubstitution(Substitution):
    """A fixed text."""

    def __init__(self, *, text: str) -> None:
        self.text = text

    def perform(self, context: LaunchContext) -> str:
        """Return the text."""
        return self.text

    def describe(self) -> str:
        """Return the text in quotes."""
        return repr(self.text)


def normalize(value: SomeSubstitutions) -> tuple[Substitution, ...]:
    """Turn a text, a substitution or a list of both into a tuple of substitutions."""
    if isinstance(value, Substitution):
        return (value,)
    if isinstance(value, str | Path):
        return (TextSubstitution(text=str(value)),)
    if not isinstance(value, Iterable):
        raise LaunchError(f"launch file: found {value!r} ({type(value).__name__}), expected text or a substitution")
    return tuple(part for item in value for part in normalize(item))


def perform(context: LaunchContext, value: SomeSubstitutions) -> str:
    """Return the concatenated text of one or more substitutions."""
    return "".join(part.perform(context) for part in normalize(value))


def describe(value: SomeSubstitutions) -> str:
    """Describe one or more substitutions without performing them."""
    return " + ".join(part.describe() for part in normalize(value))


def as_bool(text: str, where: str) -> bool:
    """Read a truth value as launch conditions do: true, 1, false or 0 in any case.

    Raises:
        LaunchError: for any other text.
    """
    lowered = text.strip().lower()
    if lowered not in TRUE_TEXTS + FALSE_TEXTS:
        raise LaunchError(f"{where}: found {text!r}, expected true, 1, false or 0")
    return lowered in TRUE_TEXTS


class LaunchConfiguration(Substitution):
    """The value of a launch argument."""

    def __init__(self, variable_name: SomeSubstitutions, *, default: SomeSubstitutions | float | None = None) -> None:
        self.variable_name = variable_name
        self.default = str(default) if isinstance(default, bool | int | float) else default

    def perform(self, context: LaunchContext) -> str:
        """Return the value, or the default.

        Raises:
            LaunchError: if the argument has neither.
        """
        name = perform(context, self.variable_name)
        if name in context.launch_configurations:
            return context.launch_configurations[name]
        if self.default is None:
            raise LaunchError(f"launch argument {name}: found no value; declare it or pass {name}:=<value>")
        return perform(context, self.default)

    def describe(self) -> str:
        """Name the argument."""
        return f"LaunchConfiguration({describe(self.variable_name)})"


class EnvironmentVariable(Substitution):
    """The value of an environment variable."""

    def __init__(self, name: SomeSubstitutions, *, default_value: SomeSubstitutions | None = None) -> None:
        self.name = name
        self.default_value = default_value

    def perform(self, context: LaunchContext) -> str:
        """Return the value, or the default.

        Raises:
            LaunchError: if the variable is unset and has no default.
        """
        name = perform(context, self.name)
        if name in context.environment:
            return context.environment[name]
        if self.default_value is None:
            raise LaunchError(f"environment variable {name}: found unset, expected a value; export {name}=...")
        return perform(context, self.default_value)

    def describe(self) -> str:
        """Name the variable."""
        return f"EnvironmentVariable({describe(self.name)})"


class PathJoinSubstitution(Substitution):
    """Path components joined by the operating system's separator."""

    def __init__(self, substitutions: Iterable[str | Path | Substitution]) -> None:
        self.parts = tuple(substitutions)
        for part in self.parts:
            # Newer releases take lists of parts as one component; Jazzy does not.
            if not isinstance(part, str | Path | Substitution):
                raise UnsupportedConstructError(f"PathJoinSubstitution([{part!r}])")

    def perform(self, context: LaunchContext) -> str:
        """Return the joined path."""
        return os.path.join(*(perform(context, part) for part in self.parts))

    def describe(self) -> str:
        """Describe every component."""
        return f"PathJoin({', '.join(describe(part) for part in self.parts)})"


class ThisLaunchFile(Substitution):
    """The absolute path of the launch file that is being visited."""

    def perform(self, context: LaunchContext) -> str:
        """Return the path.

        Raises:
            LaunchError: outside a launch file.
        """
        if context.launch_file is None:
            raise LaunchError(f"{type(self).__name__}: found no current launch file, expected one")
        return str(context.launch_file)


class ThisLaunchFileDir(ThisLaunchFile):
    """The directory of the launch file that is being visited."""

    def perform(self, context: LaunchContext) -> str:
        """Return the directory."""
        return str(Path(super().perform(context)).parent)


class FindExecutable(Substitution):
    """The path of a program on PATH."""

    def __init__(self, *, name: SomeSubstitutions) -> None:
        self.name = name

    def perform(self, context: LaunchContext) -> str:
        """Return the path.

        Raises:
            LaunchError: if the program is not on PATH.
        """
        name = perform(context, self.name)
        found = shutil.which(name, path=context.environment.get("PATH"))
        if found is None:
            raise LaunchError(f"executable {name}: found nowhere on PATH; install it")
        return found


class Command(Substitution):
    """The standard output of a command, for example xacro."""

    def __init__(self, command: SomeSubstitutions, *, on_stderr: str = "fail") -> None:
        if on_stderr not in ("fail", "ignore"):
            raise UnsupportedConstructError(f"Command(on_stderr={on_stderr!r})")
        self.command = command
        self.on_stderr = on_stderr

    def perform(self, context: LaunchContext) -> str:
        """Run the command and return its output.

        Raises:
            LaunchError: if it cannot be started, fails, or (with on_stderr='fail') writes to stderr.
        """
        words = shlex.split(perform(context, self.command))
        try:
            done = subprocess.run(words, capture_output=True, text=True, env=context.environment, check=False)
        except OSError as error:
            raise LaunchError(f"command {words[0]}: cannot be started ({error.strerror}); install it") from error
        complaint = done.stderr.strip().splitlines()
        if done.returncode != 0 or (complaint and self.on_stderr == "fail"):
            last = complaint[-1] if complaint else "no message"
            raise LaunchError(f"command {words[0]}: found exit code {done.returncode} ({last}), expected success")
        return done.stdout
