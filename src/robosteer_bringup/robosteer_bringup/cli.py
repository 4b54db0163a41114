"""The `robosteer` command: finds every package's subcommands and imports only the one that is asked for."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path

from robosteer_bringup.empty_paths import empty_paths_refused
from robosteer_rig.interrupts import INTERRUPTED, TERMINATED, Termination, ends_at_once, termination_interrupts

BEGIN = "The way through: record, steer, evaluate, deploy. `robosteer demo` goes it once in simulation, in ten minutes."
GROUP = "robosteer.commands"
ENDS = (
    "Ctrl-C and SIGTERM let long work save what it has; it says how to go on. Exit codes: 0 done, 1 what you can mend, "
    "2 wrong usage, 130 Ctrl-C, 143 SIGTERM."
)
USAGE = "usage: robosteer <command> [options]        robosteer <command> --help explains one command"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        argv: Words after `robosteer`; None means those of this process.

    Returns:
        0 on success, 1 for what the user can fix, 2 for wrong usage, 130 after Ctrl-C, 143 after SIGTERM.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    commands = discover()
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview(commands))
        return 0
    if words[0] == "--version":
        print(f"robosteer {metadata.version('robosteer_bringup')}")
        return 0
    name, *rest = words
    if name not in commands:
        print(unknown(name, commands), file=sys.stderr)
        return 2
    return run(name, commands[name], rest)


def discover() -> dict[str, metadata.EntryPoint]:
    """Return every installed subcommand by name, without importing any."""
    return {entry.name: entry for entry in sorted(metadata.entry_points(group=GROUP))}


def run(name: str, entry: metadata.EntryPoint, argv: Sequence[str]) -> int:
    """Import a subcommand and run it; what the user can fix becomes one line on stderr."""
    with termination_interrupts() as termination:
        return _run(name, entry, argv, termination)


def _run(name: str, entry: metadata.EntryPoint, argv: Sequence[str], termination: Termination) -> int:
    try:
        with ends_at_once():
            command = entry.load()
        with empty_paths_refused(argv):
            code = command(list(argv)) or 0
        sys.stdout.flush()  # Here, where a reader that has gone is no error.
        return code
    except KeyboardInterrupt:
        print(f"robosteer {name}: {'terminated' if termination.requested else 'interrupted'}", file=sys.stderr)
        return TERMINATED if termination.requested else INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has seen enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if getattr(error, "user_error", False):
            print(f"robosteer {name}: {error}", file=sys.stderr)
            return 1
        if isinstance(error, OSError) and error.filename is not None:
            print(f"robosteer {name}: {_file_trouble(error)}", file=sys.stderr)
            return 1
        error.add_note(
            f"robosteer {name}: this is a bug of RoboSteer, not of yours; please report it with these lines."
        )
        raise


def _file_trouble(error: OSError) -> str:
    """One line about a file that cannot be used: the path, the system's reason, and where we stumbled over it."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "robosteer_" in Path(frame.filename).parent.as_posix()] or frames
    place = f"{Path(ours[-1].filename).name} line {ours[-1].lineno}"
    return f"{error.filename}: {error.strerror}; check the path, its permissions and the disk ({place})"


def unknown(name: str, commands: dict[str, metadata.EntryPoint]) -> str:
    """Return the complaint about a command that does not exist, with the nearest ones that do."""
    near = get_close_matches(name, commands, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(commands)}"
    return f"robosteer: found no command {name!r}; {hint}"


def overview(commands: dict[str, metadata.EntryPoint]) -> str:
    """Return the help text: each command with the first line of its documentation."""
    width = max((len(name) for name in commands), default=0)
    lines = [f"  {name:<{width}}  {summary(entry)}" for name, entry in commands.items()]
    return "\n".join(["RoboSteer: few-shot adaptation of robot policies.", "", USAGE, "", *lines, "", BEGIN, ENDS])


def summary(entry: metadata.EntryPoint) -> str:
    """Return a command's first line of documentation, read from its source without importing it.

    The function's own docstring counts where the module serves several commands, the module's otherwise.
    """
    path = module_path(entry.module)
    if path is None:
        return ""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    document = ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == entry.attr and entry.attr != "main":
            document = ast.get_docstring(node) or document
    if not document:
        return ""
    # The name stands beside the summary already, so a docstring that opens with it loses it.
    text = re.sub(r"^(Command )?`robosteer [a-z-]+`: ", "", document.splitlines()[0]).rstrip(".")
    return text[:1].upper() + text[1:]


def module_path(module: str) -> Path | None:
    """Return a module's source file without importing it or its parents; None if there is none."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        return None
    if not rest:
        return Path(spec.origin)
    base = Path(spec.origin).parent.joinpath(*rest)
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


if __name__ == "__main__":
    sys.exit(main())
