"""Launch arguments: reading them, finding those of a file, checking their names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches

from robosteer_bringup.launcher.actions import DeclareLaunchArgument
from robosteer_bringup.launcher.context import Entity, LaunchContext
from robosteer_bringup.launcher.description import LaunchDescription
from robosteer_bringup.launcher.errors import LaunchError
from robosteer_bringup.launcher.execute_process import TIMEOUTS
from robosteer_bringup.launcher.include import IncludeLaunchDescription
from robosteer_bringup.launcher.plan import Plan
from robosteer_bringup.launcher.substitutions import perform


def parse_arguments(words: Iterable[str]) -> dict[str, str]:
    """Read `name:=value` words; the last one wins.

    Raises:
        LaunchError: for a word of another form.
    """
    values: dict[str, str] = {}
    for word in words:
        name, sign, value = word.partition(":=")
        if not name or not sign:
            raise LaunchError(f"launch argument: found {word!r}, expected name:=value")
        values[name] = value
    return values


def declared_arguments(description: LaunchDescription, environment: Mapping[str, str]) -> list[DeclareLaunchArgument]:
    """Return every argument that a file and the files it includes declare, each name once.

    Arguments that an include sets itself are left out: a value from the command line would not reach them.
    """
    context = LaunchContext(runtime=Plan(), environment=dict(environment))
    found: dict[str, DeclareLaunchArgument] = {}
    for argument in _walk(description, context, frozenset()):
        found.setdefault(argument.name, argument)
    return list(found.values())


def _walk(entity: Entity, context: LaunchContext, fixed: frozenset[str]) -> Iterator[DeclareLaunchArgument]:
    if isinstance(entity, DeclareLaunchArgument) and entity.name not in fixed:
        yield entity
    children = list(entity.sub_entities())
    if isinstance(entity, IncludeLaunchDescription):
        included = entity.load(context)
        children += [] if included is None else [included]
        fixed = fixed | {perform(context, name) for name, _ in entity.arguments}
    for child in children:
        yield from _walk(child, context, fixed)


def check_names(given: Iterable[str], declared: Iterable[DeclareLaunchArgument]) -> None:
    """Refuse arguments that no file declares (`ros2 launch` ignores them silently).

    Raises:
        LaunchError: naming the nearest declared argument.
    """
    known = [argument.name for argument in declared]
    for name in given:
        if name not in known and name not in TIMEOUTS:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known) or 'none'}"
            raise LaunchError(f"launch argument {name}: found no such argument; {hint}")
