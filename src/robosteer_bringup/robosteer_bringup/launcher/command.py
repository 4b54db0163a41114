"""Run a stack of nodes from a launch file (the syntax of ros2 launch)."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from robosteer_bringup.launcher.argument_help import describe_arguments
from robosteer_bringup.launcher.arguments import check_names, declared_arguments, parse_arguments
from robosteer_bringup.launcher.checks import check_launch
from robosteer_bringup.launcher.description import LaunchDescription
from robosteer_bringup.launcher.errors import LaunchError
from robosteer_bringup.launcher.importer import launch_api
from robosteer_bringup.launcher.include import include_file
from robosteer_bringup.launcher.output import Output, log_directory
from robosteer_bringup.launcher.plan import make_plan
from robosteer_bringup.launcher.resolve import launch_file, with_ament_prefix
from robosteer_bringup.launcher.runner import Runner


def main(argv: Sequence[str], prog: str = "robosteer launch") -> int:
    """Run a launch file; return 0, or 1 after a process died."""
    options = _parser(prog).parse_intermixed_args(argv)
    if not options.builtin and not options.dry_run and ros2_launch_installed():
        return _exec_ros2_launch(options)
    os.environ.update(with_ament_prefix(os.environ))
    path, words = _file_and_words(options.package_or_file, options.words)
    values = parse_arguments(words)
    with launch_api(), tempfile.TemporaryDirectory(prefix="robosteer_launch_") as scratch:
        description = include_file(path, values)
        declared = declared_arguments(description, os.environ)
        if options.show_args:
            print(describe_arguments(declared, values))
            return 0
        check_names(values, declared)
        if options.dry_run:
            print(make_plan(description, os.environ, Path(scratch)).render())
            return 0
        # Visited twice: what is wrong must be found before anything runs, and a description can be run only once.
        check_launch(description, os.environ, Path(scratch))
        return _run(include_file(path, values), Path(scratch))


def ros2_launch_installed() -> bool:
    """Return whether the real launch is here; `launch` alone proves nothing, PyPI has another one."""
    return importlib.util.find_spec("launch_ros") is not None and shutil.which("ros2") is not None


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Run a launch file: with ros2 launch where ROS 2 is installed, else with the built-in launcher.",
        epilog="example: robosteer launch robosteer_bringup record.launch.py sim:=true out:=demos",
    )
    parser.add_argument("package_or_file", help="package name, or path of a launch file")
    parser.add_argument("words", nargs="*", metavar="...", help="launch file name (after a package), then name:=value")
    add_options(parser)
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command that launches knows."""
    parser.add_argument("-s", "--show-args", action="store_true", help="list the launch file's arguments and stop")
    parser.add_argument("--dry-run", action="store_true", help="print the commands that would be started and stop")
    parser.add_argument("--builtin", action="store_true", help="use the built-in launcher also where ROS 2 is there")


def _file_and_words(package_or_file: str, words: Sequence[str]) -> tuple[Path, Sequence[str]]:
    path = Path(package_or_file)
    if path.is_file() or path.suffix == ".py":
        return path.absolute(), words
    if not words or ":=" in words[0]:
        raise LaunchError(f"package {package_or_file}: found no launch file name after it, expected <name>.launch.py")
    return launch_file(package_or_file, words[0], os.environ), words[1:]


def _run(description: LaunchDescription, scratch: Path) -> int:
    directory = log_directory(os.environ, datetime.now())
    directory.mkdir(parents=True)
    with (directory / "launch.log").open("w", encoding="utf-8") as log_file:
        output = Output(log_file=log_file)
        output.message("INFO", "launch", f"log: {directory / 'launch.log'}")

        async def run() -> int:
            return await Runner(os.environ, output, scratch).run(description)

        return asyncio.run(run())


def _exec_ros2_launch(options: argparse.Namespace) -> int:
    command = ["ros2", "launch", *(["--show-args"] if options.show_args else [])]
    command += [options.package_or_file, *options.words]
    print(f"robosteer: ROS 2 is installed; running: {' '.join(command)}", file=sys.stderr, flush=True)
    os.execvp(command[0], command)  # noqa: S606
