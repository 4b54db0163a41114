"""An empty text is no path.

`Path("")` is the working directory, so `--bag "$BAGS"` with a variable that is not set would read, or write, there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from robosteer_rig.errors import RobosteerError


@contextmanager
def empty_paths_refused(argv: Sequence[str]) -> Iterator[None]:
    """Make tyro refuse '' wherever a command line wants a path; costs nothing where no argument is empty.

    Raises:
        RobosteerError: inside the block, naming the option.
    """
    where = _empty(argv)
    if where is None:
        yield
        return
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    def read(words: list[str]) -> Path:
        if not words[0]:
            raise RobosteerError(f"{where}: found '', expected a path; '.' is the working directory")
        return Path(words[0])

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
        if info.type is not Path:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="PATH",
            instance_from_str=read,
            is_instance=lambda value: isinstance(value, Path),
            str_from_instance=lambda value: [str(value)],
        )

    with registry:
        yield


def _empty(argv: Sequence[str]) -> str | None:
    """What an empty argument belongs to, as the user wrote it; None where there is no empty argument."""
    option = "argument"
    for word in argv:
        if word.startswith("--"):
            option, sign, value = word.partition("=")
            if sign and not value:
                return option
        elif not word:
            return option
    return None
