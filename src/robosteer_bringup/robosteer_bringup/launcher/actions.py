"""Actions without a process: arguments, groups, environment, timers, events and messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from robosteer_bringup.launcher.context import Entity, LaunchContext
from robosteer_bringup.launcher.description import Action, check_entities
from robosteer_bringup.launcher.errors import LaunchError, UnsupportedConstructError
from robosteer_bringup.launcher.events import EventHandler
from robosteer_bringup.launcher.events import Shutdown as ShutdownEvent
from robosteer_bringup.launcher.substitutions import SomeSubstitutions, perform


class DeclareLaunchArgument(Action):
    """Names an argument of the launch file, with its default and its allowed values."""

    def __init__(
        self,
        name: str,
        *,
        default_value: SomeSubstitutions | None = None,
        description: str = "no description given",
        choices: Iterable[str] | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        self.name = name
        self.default_value = default_value
        self.description = description
        self.choices = None if choices is None else tuple(choices)
        if self.choices == ():
            raise LaunchError(f"launch argument {name}: found an empty list of choices, expected at least one")

    def execute(self, context: LaunchContext) -> None:
        """Take the given value or the default, and check it.

        Raises:
            LaunchError: without a value, or with one that is not among the choices.
        """
        if self.name not in context.launch_configurations:
            if self.default_value is None:
                raise LaunchError(
                    f"launch argument {self.name}: found no value, expected {self.description}; "
                    f"pass {self.name}:=<value>"
                )
            context.launch_configurations[self.name] = perform(context, self.default_value)
        value = context.launch_configurations[self.name]
        if self.choices is not None and value not in self.choices:
            wanted = ", ".join(choice or "''" for choice in self.choices)
            raise LaunchError(f"launch argument {self.name}: found {value!r}, expected one of {wanted}")


class SetLaunchConfiguration(Action):
    """Sets the value of a launch argument."""

    def __init__(self, name: SomeSubstitutions, value: SomeSubstitutions, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.name = name
        self.value = value

    def execute(self, context: LaunchContext) -> None:
        """Set it."""
        context.launch_configurations[perform(context, self.name)] = perform(context, self.value)


class SetEnvironmentVariable(Action):
    """Sets a variable in the environment of the processes started after it, within the same group."""

    def __init__(self, name: SomeSubstitutions, value: SomeSubstitutions, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.name = name
        self.value = value

    def execute(self, context: LaunchContext) -> None:
        """Set it."""
        context.environment[perform(context, self.name)] = perform(context, self.value)


class _PopScope(Action):
    """Ends a scoped group."""

    def execute(self, context: LaunchContext) -> None:
        """Restore the scope."""
        context.pop_scope()


class GroupAction(Action):
    """Groups actions; arguments, environment and namespace changed inside are restored after it."""

    def __init__(
        self,
        actions: Iterable[Entity],
        *,
        scoped: bool = True,
        forwarding: bool = True,
        launch_configurations: Mapping[str, SomeSubstitutions] | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        if not forwarding:
            raise UnsupportedConstructError("GroupAction(forwarding=False)")
        self.actions: Sequence[Entity] = tuple(actions)
        check_entities(self.actions, "GroupAction")
        self.scoped = scoped
        self.settings = [SetLaunchConfiguration(k, v) for k, v in (launch_configurations or {}).items()]

    def execute(self, context: LaunchContext) -> list[Entity]:
        """Open a scope and return the actions with the scope's end behind them."""
        inside: list[Entity] = [*self.settings, *self.actions]
        if not self.scoped:
            return inside
        context.push_scope()
        return [*inside, _PopScope()]

    def sub_entities(self) -> Sequence[Entity]:
        """Return the actions."""
        return self.actions


class TimerAction(Action):
    """Executes actions after a time in seconds."""

    def __init__(
        self,
        *,
        period: float | SomeSubstitutions,
        actions: Iterable[Entity],
        cancel_on_shutdown: bool = True,
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        self.period = period
        self.actions: Sequence[Entity] = tuple(actions)
        check_entities(self.actions, "TimerAction")
        self.cancel_on_shutdown = cancel_on_shutdown

    def execute(self, context: LaunchContext) -> None:
        """Start the timer.

        Raises:
            LaunchError: if the period is not a number of seconds >= 0.
        """
        period = self.period if isinstance(self.period, float | int) else perform(context, self.period)
        try:
            seconds = float(period)
        except ValueError as error:
            raise LaunchError(f"TimerAction: found period {period!r}, expected seconds") from error
        if not seconds >= 0:
            raise LaunchError(f"TimerAction: found period {period!r}, expected seconds >= 0")
        context.runtime.start_timer(seconds, self.actions, cancel_on_shutdown=self.cancel_on_shutdown)

    def sub_entities(self) -> Sequence[Entity]:
        """Return the actions."""
        return self.actions


class LogInfo(Action):
    """Prints a message."""

    def __init__(self, *, msg: SomeSubstitutions, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.msg = msg

    def execute(self, context: LaunchContext) -> None:
        """Print it."""
        context.runtime.log(perform(context, self.msg))


class OpaqueFunction(Action):
    """Calls a function of the launch file with the context; visits the entities that it returns."""

    def __init__(
        self,
        *,
        function: Callable[..., Iterable[Entity] | None],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        if not callable(function):
            raise LaunchError(f"OpaqueFunction: found function={function!r}, expected a function")
        self.function = function
        self.args = tuple(args or ())
        self.kwargs = dict(kwargs or {})

    def execute(self, context: LaunchContext) -> Sequence[Entity]:
        """Call it."""
        entities = tuple(self.function(context, *self.args, **self.kwargs) or ())
        check_entities(entities, "OpaqueFunction")
        return entities


class EmitEvent(Action):
    """Emits an event; this launcher knows Shutdown."""

    def __init__(self, *, event: ShutdownEvent, **keywords: Any) -> None:
        super().__init__(**keywords)
        if not isinstance(event, ShutdownEvent):
            raise UnsupportedConstructError(f"EmitEvent(event={type(event).__name__}(...))")
        self.event = event

    def execute(self, context: LaunchContext) -> None:
        """Begin the shutdown."""
        context.runtime.request_shutdown(self.event.reason)


class Shutdown(Action):
    """Stops every process, then the launch."""

    def __init__(self, *, reason: SomeSubstitutions = "reason not given", **keywords: Any) -> None:
        super().__init__(**keywords)
        self.reason = reason

    def execute(self, context: LaunchContext) -> None:
        """Begin the shutdown."""
        context.runtime.request_shutdown(perform(context, self.reason))


class RegisterEventHandler(Action):
    """Registers a handler for the events that follow."""

    def __init__(self, event_handler: EventHandler, **keywords: Any) -> None:
        super().__init__(**keywords)
        if not isinstance(event_handler, EventHandler):
            raise UnsupportedConstructError(f"RegisterEventHandler({type(event_handler).__name__})")
        self.event_handler = event_handler

    def execute(self, context: LaunchContext) -> None:
        """Register it before the older ones, as the real launch does."""
        context.handlers.insert(0, self.event_handler)

    def sub_entities(self) -> Sequence[Entity]:
        """Return what the handler may execute."""
        return self.event_handler.sub_entities()
