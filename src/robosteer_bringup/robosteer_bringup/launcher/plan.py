"""What a launch would start, without starting it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import yaml

from robosteer_bringup.launcher.context import Entity, LaunchContext, ProcessSpec, visit
from robosteer_bringup.launcher.description import LaunchDescription


@dataclass
class Plan:
    """The effects of visiting a description, written down instead of carried out.

    Attributes:
        processes: What would be started at once, in order.
        messages: What would be printed.
        timers: Period in seconds and actions of every timer.
        shutdown_reason: Why the launch would stop at once, or None.
    """

    processes: list[ProcessSpec] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    timers: list[tuple[float, tuple[Entity, ...]]] = field(default_factory=list)
    shutdown_reason: str | None = None

    def start_process(self, spec: ProcessSpec, action: object) -> None:
        """Write a process down, unless the launch would be stopping."""
        if self.shutdown_reason is None:
            self.processes.append(spec)

    def start_timer(self, period_s: float, actions: Iterable[Entity], *, cancel_on_shutdown: bool) -> None:
        """Write a timer down."""
        self.timers.append((period_s, tuple(actions)))

    def request_shutdown(self, reason: str) -> None:
        """Write the first reason down."""
        self.shutdown_reason = self.shutdown_reason or reason

    def log(self, text: str) -> None:
        """Write a message down."""
        self.messages.append(text)

    def render(self) -> str:
        """Return the commands as a shell would take them, with their parameter files as comments."""
        lines = [f"# {message}" for message in self.messages]
        for spec in self.processes:
            lines += [f"# {spec.name}: {text}" for text in parameter_texts(spec)]
            lines.append(shlex.join(spec.command))
        return "\n".join(lines)


def parameter_texts(spec: ProcessSpec) -> list[str]:
    """Return the content of every parameter file on a command line, each as one line of YAML."""
    files = [value for flag, value in pairwise(spec.command) if flag == "--params-file"]
    return [_one_line(Path(file).read_text(encoding="utf-8")) for file in files]


def _one_line(text: str) -> str:
    return yaml.safe_dump(yaml.safe_load(text), default_flow_style=True, width=math.inf).strip()


def make_plan(description: LaunchDescription, environment: Mapping[str, str], scratch: Path | None = None) -> Plan:
    """Visit a description and return what it would do first (before any event).

    Raises:
        LaunchError: for what is wrong in the launch file.
    """
    plan = Plan()
    visit(description, LaunchContext(runtime=plan, environment=dict(environment), scratch=scratch))
    return plan
