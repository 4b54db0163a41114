"""The `robosteer` command.

Pins: a help that imports JAX or MuJoCo (and takes seconds); a user's mistake shown as a traceback; a bug of ours shown
as if it were the user's; a wrong exit code (0, 1, 2 or 130).
"""

import os
import subprocess
import sys
import types
from importlib.metadata import EntryPoint

import pytest

from robosteer_bringup import cli
from robosteer_rig.errors import RobosteerError

HEAVY = ("jax", "mujoco", "numpy", "rclpy", "scipy", "matplotlib", "yaml", "tyro", "asyncio")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch):
    """Register a subcommand `probe` that does what the test sets."""
    module = types.ModuleType("probe_command")
    monkeypatch.setitem(sys.modules, "probe_command", module)
    entry = EntryPoint("probe", "probe_command:main", cli.GROUP)
    monkeypatch.setattr(cli, "discover", lambda: {"probe": entry})
    return module


def test_help_lists_every_command_without_importing_it() -> None:
    done = run_python(
        "import sys; from robosteer_bringup import cli; cli.main(['--help']);"
        f"print(sorted(m for m in {HEAVY} if m in sys.modules))"
        ";print(sorted(m for m in sys.modules if m.startswith('robosteer')))"
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[-2] == "[]"
    ours = ["robosteer_bringup", *(f"robosteer_bringup.{name}" for name in ("cli", "empty_paths"))]
    rig = ["robosteer_rig", *(f"robosteer_rig.{name}" for name in ("errors", "interrupts"))]
    assert lines[-1] == str([*ours, *rig])
    for name, text in (
        ("launch", "Run a stack of nodes"),
        ("record", "Record demonstrations"),
        ("run", "Run one node"),
    ):
        assert any(line.split()[:1] == [name] and text in line for line in lines), name


def test_every_command_has_one_line_of_documentation_and_one_owner() -> None:
    from importlib.metadata import entry_points

    names = [entry.name for entry in entry_points(group=cli.GROUP)]
    assert len(names) == len(set(names))
    for name, entry in cli.discover().items():
        assert cli.summary(entry), f"{name}: {entry.value} has no module docstring"


def test_unknown_command_names_the_nearest_and_exits_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recrod"]) == 2
    assert "found no command 'recrod'; did you mean record?" in capsys.readouterr().err
    assert cli.main(["xyzzy"]) == 2
    assert "expected one of " in capsys.readouterr().err


def test_version_and_bare_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("robosteer 0.")
    assert cli.main([]) == 0
    assert "usage: robosteer <command>" in capsys.readouterr().out


def test_user_errors_are_one_line_and_exit_with_one(command, capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: list[str]) -> int:
        raise RobosteerError(f"rig {argv[0]}: found no such file, expected a rig file; check the path")

    command.main = main
    assert cli.main(["probe", "x.yaml"]) == 1
    assert capsys.readouterr().err == (
        "robosteer probe: rig x.yaml: found no such file, expected a rig file; check the path\n"
    )


def test_a_file_that_cannot_be_used_is_one_line_with_its_path(command, capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: list[str]) -> int:
        with open(argv[0]):
            return 0

    command.main = main
    assert cli.main(["probe", "/nothing/here"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("robosteer probe: /nothing/here: No such file or directory; check the path")
    assert (shown.count("\n"), "test_cli.py line" in shown) == (1, True)


def test_bugs_keep_their_traceback_and_say_whose_they_are(command) -> None:
    def main(argv: list[str]) -> int:
        raise ZeroDivisionError

    command.main = main
    with pytest.raises(ZeroDivisionError) as caught:
        cli.main(["probe"])
    assert "bug of RoboSteer" in caught.value.__notes__[0]


def test_exit_codes_of_commands(command) -> None:
    def interrupted(argv: list[str]) -> int:
        raise KeyboardInterrupt

    command.main = lambda argv: 3
    assert cli.main(["probe"]) == 3
    command.main = lambda argv: None
    assert cli.main(["probe"]) == 0
    command.main = interrupted
    assert cli.main(["probe"]) == 130


def test_run_passes_arguments_on_and_names_what_is_missing(bench) -> None:
    words = [sys.executable, "-m", "robosteer_bringup.cli", "run", "demo"]
    done = subprocess.run([*words, "node", "--bag", "x y"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "--bag x y\n")
    done = subprocess.run([*words, "nod"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "robosteer run: package demo: found no executable 'nod', expected one of node, other\n"
    assert subprocess.run(words, capture_output=True, check=False).returncode == 2


def test_a_reader_that_stops_early_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "robosteer_bringup.cli", "record", "--show-args"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
