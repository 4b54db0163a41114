"""Events of a launch and the handlers that answer them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from robosteer_bringup.launcher.context import Entity, LaunchContext
from robosteer_bringup.launcher.description import Action, LaunchDescription, check_entities
from robosteer_bringup.launcher.errors import LaunchError, refuse_keywords


@dataclass(frozen=True)
class Shutdown:
    """Everything is to stop.

    Attributes:
        reason: Why, for the log.
        due_to_sigint: True after Ctrl-C.
    """

    reason: str = ""
    due_to_sigint: bool = False


@dataclass(frozen=True)
class ProcessStarted:
    """A process runs."""

    action: object
    process_name: str
    pid: int
    cmd: tuple[str, ...]


@dataclass(frozen=True)
class ProcessExited:
    """A process ended; `returncode` is negative when a signal ended it."""

    action: object
    process_name: str
    pid: int
    cmd: tuple[str, ...]
    returncode: int


@dataclass(frozen=True)
class TimerFired:
    """A TimerAction's time is over, or it was cancelled (then there are no entities)."""

    entities: tuple[Entity, ...]


Event: TypeAlias = Shutdown | ProcessStarted | ProcessExited | TimerFired
Answer: TypeAlias = "Entity | Iterable[Entity] | Callable[..., Entity | Iterable[Entity] | None] | None"


class EventHandler:
    """Answers the events of one kind, optionally of one action only."""

    kind: type = object

    def __init__(self, target_action: Action | None, answer: Answer, handle_once: bool) -> None:
        if target_action is not None:
            check_entities([target_action], type(self).__name__)
        self.target = target_action
        self.answer = answer
        self.handle_once = handle_once
        if not callable(answer):
            check_entities(self.sub_entities(), type(self).__name__)

    def sub_entities(self) -> tuple[Entity, ...]:
        """Entities known before the event, for `--show-args`."""
        return () if callable(self.answer) else as_entities(self.answer)

    def matches(self, event: Event) -> bool:
        """Return whether this handler answers the event."""
        return isinstance(event, self.kind) and (self.target is None or getattr(event, "action", None) is self.target)

    def handle(self, event: Event, context: LaunchContext) -> tuple[Entity, ...]:
        """Return the entities to visit.

        Raises:
            LaunchError: if the handler is a function that fails or returns something else.
        """
        if self.handle_once:
            context.handlers.remove(self)
        if not callable(self.answer):
            return as_entities(self.answer)
        try:
            result = as_entities(self.answer(event, context))
        except Exception as error:  # A launch file's own function; its failure must stop the launch in order.
            raise LaunchError(f"{type(self).__name__} handler: {type(error).__name__}: {error}") from error
        check_entities(result, type(self).__name__)
        return result


def as_entities(answer: Entity | Iterable[Entity] | None) -> tuple[Entity, ...]:
    """Return one, several or no entities as a tuple."""
    if answer is None:
        return ()
    if isinstance(answer, Iterable):
        return tuple(answer)
    return (answer,)


class OnProcessExit(EventHandler):
    """Acts when a process ends."""

    kind = ProcessExited

    def __init__(
        self,
        *,
        on_exit: Answer,
        target_action: Action | None = None,
        handle_once: bool = False,
        **unsupported: object,
    ) -> None:
        refuse_keywords("OnProcessExit", unsupported)
        super().__init__(target_action, on_exit, handle_once)


class OnProcessStart(EventHandler):
    """Acts when a process has been started."""

    kind = ProcessStarted

    def __init__(
        self,
        *,
        on_start: Answer,
        target_action: Action | None = None,
        handle_once: bool = False,
        **unsupported: object,
    ) -> None:
        refuse_keywords("OnProcessStart", unsupported)
        super().__init__(target_action, on_start, handle_once)


class OnShutdown(EventHandler):
    """Acts when the launch begins to stop; processes can no longer be started then."""

    kind = Shutdown

    def __init__(self, *, on_shutdown: Answer, handle_once: bool = False, **unsupported: object) -> None:
        refuse_keywords("OnShutdown", unsupported)
        super().__init__(None, on_shutdown, handle_once)


def included_entities(description: LaunchDescription) -> Iterable[Entity]:
    """Yield every entity below a description, depth first, without executing anything."""
    stack: list[Entity] = list(reversed(description.entities))
    while stack:
        entity = stack.pop()
        yield entity
        stack.extend(reversed(list(entity.sub_entities())))
