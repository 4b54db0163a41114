"""A launch bench: temporary launch files, a temporary ament prefix with shell scripts for nodes, and a plan maker."""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from robosteer_bringup.launcher import command
from robosteer_bringup.launcher.importer import launch_api
from robosteer_bringup.launcher.include import include_file
from robosteer_bringup.launcher.plan import Plan, make_plan

# A script that starts the tests with `&` has them ignore Ctrl-C, and so would every process that they start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

IMPORTS = """
from launch import LaunchDescription, events
from launch.actions import *
from launch.conditions import *
from launch.event_handlers import *
from launch.launch_description_sources import *
from launch.substitutions import *
from launch_ros.actions import *
from launch_ros.parameter_descriptions import *
from launch_ros.substitutions import *
"""


@dataclass
class Bench:
    """Writes launch files and programs below one directory, plans and runs them."""

    root: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def prefix(self) -> Path:
        return self.root / "prefix"

    def program(self, name: str, script: str, package: str = "demo") -> Path:
        """Install a shell script as lib/<package>/<name>."""
        (self.prefix / "share" / package).mkdir(parents=True, exist_ok=True)
        markers = self.prefix / "share/ament_index/resource_index/packages"
        markers.mkdir(parents=True, exist_ok=True)
        (markers / package).touch()
        path = self.prefix / "lib" / package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def file(self, entities: str, name: str = "test.launch.py") -> Path:
        """Write a launch file whose description holds these entities (the inside of a list)."""
        path = self.root / name
        path.write_text(f"{IMPORTS}\ndef generate_launch_description():\n    return LaunchDescription([{entities}])\n")
        return path

    def plan(self, entities: str, **arguments: str) -> Plan:
        """What a launch file would do at once."""
        with launch_api():
            return make_plan(include_file(self.file(entities), arguments), os.environ, self.root)

    def commands(self, entities: str, **arguments: str) -> list[list[str]]:
        """The command lines that a launch file would start, with the program's file name only."""
        specs = self.plan(entities, **arguments).processes
        return [[Path(spec.command[0]).name, *spec.command[1:]] for spec in specs]

    def run(self, entities: str, *words: str) -> tuple[int, list[str]]:
        """Run a launch file in this process; return the exit code and the screen's lines."""
        code = command.main(["--builtin", str(self.file(entities)), *words])
        return code, self.capsys.readouterr().out.splitlines()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    bench = Bench(tmp_path, capsys)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{bench.prefix}{os.pathsep}{sys.prefix}")
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    for name in ("node", "other"):
        bench.program(name, 'echo "$@"')
    return bench
