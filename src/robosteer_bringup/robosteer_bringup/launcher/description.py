"""The list of entities that a launch file returns, and the base of all actions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from robosteer_bringup.launcher.conditions import IfCondition
from robosteer_bringup.launcher.context import Entity, LaunchContext
from robosteer_bringup.launcher.errors import LaunchError, refuse_keywords


class LaunchDescription:
    """An ordered list of entities."""

    def __init__(self, initial_entities: Iterable[Entity] | None = None, **unsupported: object) -> None:
        refuse_keywords("LaunchDescription", unsupported)
        self.entities: list[Entity] = list(initial_entities or ())
        check_entities(self.entities, "LaunchDescription")

    def add_action(self, action: Entity) -> None:
        """Append an entity."""
        check_entities([action], "LaunchDescription")
        self.entities.append(action)

    add_entity = add_action

    def visit(self, context: LaunchContext) -> Sequence[Entity]:
        """Return the entities."""
        return self.entities

    def sub_entities(self) -> Sequence[Entity]:
        """Return the entities."""
        return self.entities


class Action:
    """Base of every action: executed only when its condition holds."""

    def __init__(self, *, condition: IfCondition | None = None, **unsupported: object) -> None:
        refuse_keywords(type(self).__name__, unsupported)
        if condition is not None and not isinstance(condition, IfCondition):
            raise LaunchError(f"{type(self).__name__}: found condition {condition!r}, expected IfCondition(...)")
        self.condition = condition

    def visit(self, context: LaunchContext) -> Iterable[Entity] | None:
        """Execute the action unless its condition says no."""
        if self.condition is None or self.condition.evaluate(context):
            return self.execute(context)
        return None

    def execute(self, context: LaunchContext) -> Iterable[Entity] | None:
        """Act; return what to visit next."""
        raise NotImplementedError

    def sub_entities(self) -> Iterable[Entity]:
        """Return what the action may visit later."""
        return ()


def check_entities(entities: Iterable[object], where: str) -> None:
    """Refuse things that are no launch entities, such as a bare function.

    Raises:
        LaunchError: naming the first such thing.
    """
    for entity in entities:
        if not isinstance(entity, Action | LaunchDescription):
            raise LaunchError(f"{where}: found {entity!r}, expected launch actions")
