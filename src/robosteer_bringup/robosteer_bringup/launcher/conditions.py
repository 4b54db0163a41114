"""Conditions that decide whether an action is executed."""

from robosteer_bringup.launcher.context import LaunchContext
from robosteer_bringup.launcher.substitutions import SomeSubstitutions, as_bool, describe, perform


class IfCondition:
    """True when the text is true or 1."""

    def __init__(self, predicate_expression: SomeSubstitutions) -> None:
        self.predicate = predicate_expression

    def evaluate(self, context: LaunchContext) -> bool:
        """Return whether the action is to be executed.

        Raises:
            LaunchError: if the text is not a truth value.
        """
        return as_bool(perform(context, self.predicate), f"{type(self).__name__}({describe(self.predicate)})")


class UnlessCondition(IfCondition):
    """True when the text is false or 0."""

    def evaluate(self, context: LaunchContext) -> bool:
        """Return whether the action is to be executed."""
        return not super().evaluate(context)
