"""The state that a launch file reads and changes while it is visited, and the door to the outside.

Everything that has an effect (starting a process, a timer, printing) goes through `Runtime`, so that visiting
a description is a pure function of the context: the runner acts, the planner (`plan.py`) only writes down.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from robosteer_bringup.launcher.events import EventHandler
    from robosteer_bringup.launcher.substitutions import Substitution


@dataclass(frozen=True)
class ProcessSpec:
    """Everything needed to start one process.

    Attributes:
        name: Label on screen: executable name and a running number, for example `cell-1`.
        command: Program and arguments.
        environment: The complete environment of the process.
        cwd: Working directory; None means the launcher's.
        output: `screen` (both streams on screen), `log` (stdout only into the log file) or `both`.
        sigterm_timeout_s: Seconds between SIGINT and SIGTERM.
        sigkill_timeout_s: Seconds between SIGTERM and SIGKILL.
        node: Package and executable of a ROS node; None for another program.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: str | None = None
    output: str = "log"
    sigterm_timeout_s: float = 5.0
    sigkill_timeout_s: float = 5.0
    node: tuple[str, str] | None = None


class Entity(Protocol):
    """Anything that may stand in a launch description."""

    def visit(self, context: LaunchContext) -> Iterable[Entity] | None:
        """Act in the context; return the entities to visit next."""
        ...

    def sub_entities(self) -> Iterable[Entity]:
        """Entities that may be visited later, for `--show-args`."""
        ...


class Runtime(Protocol):
    """The effects of a launch."""

    def start_process(self, spec: ProcessSpec, action: object) -> None:
        """Start a process on behalf of an action."""
        ...

    def start_timer(self, period_s: float, actions: Iterable[Entity], *, cancel_on_shutdown: bool) -> None:
        """Visit the actions after `period_s` seconds."""
        ...

    def request_shutdown(self, reason: str) -> None:
        """Stop every process, then the launch."""
        ...

    def log(self, text: str) -> None:
        """Show one line to the user."""
        ...


@dataclass(frozen=True)
class _Scope:
    configurations: dict[str, str]
    environment: dict[str, str]
    ros_namespace: str | None


@dataclass
class LaunchContext:
    """State of one launch.

    Attributes:
        runtime: Where effects go.
        launch_configurations: The values of launch arguments, by name.
        environment: What started processes inherit.
        ros_namespace: Absolute namespace pushed by PushRosNamespace, or None.
        launch_file: The file that is being visited, or None.
        handlers: Registered event handlers, newest first (as in the real launch).
        scratch: Directory for generated parameter files, or None for the system's temporary directory.
    """

    runtime: Runtime
    launch_configurations: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    ros_namespace: str | None = None
    launch_file: Path | None = None
    handlers: list[EventHandler] = field(default_factory=list)
    scratch: Path | None = None
    _scopes: list[_Scope] = field(default_factory=list)
    _process_count: int = 0

    def push_scope(self) -> None:
        """Remember arguments, environment and namespace until `pop_scope`."""
        self._scopes.append(_Scope(dict(self.launch_configurations), dict(self.environment), self.ros_namespace))

    def pop_scope(self) -> None:
        """Restore what the matching `push_scope` remembered."""
        scope = self._scopes.pop()
        self.launch_configurations = scope.configurations
        self.environment = scope.environment
        self.ros_namespace = scope.ros_namespace

    def start_process(self, spec: ProcessSpec, action: object) -> None:
        """Number a process and hand it to the runtime; `spec.name` comes without the number."""
        self._process_count += 1
        self.runtime.start_process(replace(spec, name=f"{spec.name}-{self._process_count}"), action)

    def perform_substitution(self, substitution: Substitution) -> str:
        """Return the text of one substitution (the name that the real context uses)."""
        return substitution.perform(self)


def visit(entity: Entity, context: LaunchContext) -> None:
    """Visit an entity and, depth first, everything it yields."""
    for child in entity.visit(context) or ():
        visit(child, context)
