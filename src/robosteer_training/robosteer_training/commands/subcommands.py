"""Commands that have subcommands: `robosteer heads`, `robosteer atlas`."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Union

import tyro

from robosteer_rig.places import require_writable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command(abc.ABC):
    """A subcommand."""

    json: bool = False
    """Print the result as JSON."""

    @abc.abstractmethod
    def run(self) -> tuple[str, dict[str, Any]]:
        """Do it; returns text for people and data for machines."""


def run_subcommand(prog: str, commands: Mapping[str, type[Command]], argv: list[str]) -> int:
    """Read the command line, do what it names and print what that gives; returns the exit code.

    Args:
        prog: how the command is called.
        commands: by the name of the subcommand.
        argv: words after `prog`.
    """
    kinds = tuple(Annotated[kind, tyro.conf.subcommand(name)] for name, kind in commands.items())
    union: Any = Union[kinds]  # noqa: UP007 (made at run time)
    chosen: Command = tyro.cli(union, args=argv, prog=prog)
    if (out := getattr(chosen, "out", None)) is not None:
        require_writable(out, "--out")
    text, data = chosen.run()
    if chosen.json:
        import json

        print(json.dumps(data))
    else:
        print(text)
    return 0
