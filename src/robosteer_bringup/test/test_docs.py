"""The commands in README and docs.

Pins: a how-to line that needs an installed ROS 2 where the reader has none; a command, option, launch argument, node or
service type in the docs that no longer exists.
"""

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from robosteer_bringup import cli
from robosteer_bringup.launcher.resolve import console_scripts

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    path
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    if not {"decisions", "results"} & set(path.relative_to(ROOT).parts)
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
STACKS = ("record", "deploy", "simulate")


def code_lines(text: str) -> Iterator[str]:
    """Lines of code blocks, continued ones joined, and pieces of code in the text."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    for block in blocks:
        yield from block.replace("\\\n", " ").splitlines()
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (" ".join(piece.split()) for piece in re.findall(r"`([^`]+)`", rest))


def commands(text: str) -> Iterator[list[str]]:
    """Words behind `robosteer` of every such line."""
    for line in code_lines(text):
        start = re.match(r"(?:\.venv/bin/)?robosteer (?=[a-z])", line.strip())
        if start is not None and "\\|" not in line:
            with contextlib.suppress(ValueError):  # Prose with a lone quotation mark.
                yield [word for word in shlex.split(line.strip(), comments=True)[1:] if not re.search("…|[<>]", word)]


@cache
def help_of(*command: str) -> str:
    """What a command says about itself."""
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        cli.main([*command, "--help"])
    return shown.getvalue()


def complaint(words: list[str]) -> str:
    """What is wrong with a documented command line; empty for nothing."""
    name, *rest = words
    if name not in cli.discover():
        return f"no command {name}"
    path = [name]
    while rest and (rest[0] in ("compare", "guide") or re.search(rf"[{{,•] ?{re.escape(rest[0])}\b", help_of(*path))):
        if rest[0].startswith("-") or name in ("launch", "run", "paper", "demo"):
            break
        path.append(rest.pop(0))
    shown = help_of(*path)
    if name == "run" and len(rest) > 1 and rest[1] not in console_scripts(rest[0]):
        return f"no executable {rest[1]} in {rest[0]}"
    if path == ["service", "call"] and len(rest) > 1:
        package, *_, kind = rest[1].split("/")
        return "" if hasattr(import_module(f"{package}.srv"), kind) else f"no type {rest[1]}"
    options = [] if name == "run" else [word.partition("=")[0] for word in rest if re.match(r"--[a-z]", word)]
    arguments = [word.partition(":=")[0] for word in rest if ":=" in word] if name in STACKS else []
    missing = [word for word in options if not re.search(rf"{re.escape(word)}\b", shown)]
    missing += [word for word in arguments if not re.search(rf"^ +{word}:$", shown, flags=re.MULTILINE)]
    return f"{' '.join(path)} knows no {', '.join(missing)}" if missing else ""


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_documented_command_exists(page: Path) -> None:
    found = [(words, complaint(words)) for words in commands(page.read_text(encoding="utf-8")) if words]
    wrong = [f"robosteer {shlex.join(words)}: {why}" for words, why in found if why]
    assert not wrong, "\n".join(wrong)


def test_the_pages_have_commands_at_all() -> None:
    assert sum(len(list(commands(page.read_text(encoding="utf-8")))) for page in PAGES) > 100
    assert complaint(["heads", "select", "--no-such"]) == "heads select knows no --no-such"
    assert complaint(["record", "no_such:=1"]) == "record knows no no_such"
    assert complaint(["run", "robosteer_teleop", "kees"]) == "no executable kees in robosteer_teleop"


@pytest.mark.parametrize(
    "page", [p for p in PAGES if "how-to" in p.parts or "tutorial" in p.parts], ids=lambda p: p.name
)
def test_no_guide_needs_an_installed_ros(page: Path) -> None:
    if page.name == "launch.md":  # The one that says how both are started.
        return
    lines = [line for line in code_lines(page.read_text(encoding="utf-8")) if re.match(r"\s*ros2 \w+ [/\w]", line)]
    assert not lines, "\n".join(lines)
