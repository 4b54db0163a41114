"""Substitutions with a truth value, and the choice between two texts."""

from __future__ import annotations

from math import isclose

from robosteer_bringup.launcher.context import LaunchContext
from robosteer_bringup.launcher.expressions import evaluate
from robosteer_bringup.launcher.substitutions import (
    FALSE_TEXTS,
    TRUE_TEXTS,
    SomeSubstitutions,
    Substitution,
    as_bool,
    perform,
)


def _text(value: bool) -> str:
    return "true" if value else "false"


class NotSubstitution(Substitution):
    """Logical not."""

    def __init__(self, value: SomeSubstitutions) -> None:
        self.value = value

    def perform(self, context: LaunchContext) -> str:
        """Return true or false."""
        return _text(not as_bool(perform(context, self.value), "NotSubstitution"))


class _Binary(Substitution):
    """A truth value of two texts."""

    def __init__(self, left: SomeSubstitutions, right: SomeSubstitutions) -> None:
        self.left = left
        self.right = right

    def combine(self, left: str, right: str) -> bool:
        """Return the truth value of two performed texts."""
        raise NotImplementedError

    def perform(self, context: LaunchContext) -> str:
        """Return true or false."""
        return _text(self.combine(perform(context, self.left), perform(context, self.right)))


class AndSubstitution(_Binary):
    """Logical and."""

    def combine(self, left: str, right: str) -> bool:
        """Read both sides as truth values."""
        return as_bool(left, "AndSubstitution") & as_bool(right, "AndSubstitution")


class OrSubstitution(_Binary):
    """Logical or."""

    def combine(self, left: str, right: str) -> bool:
        """Read both sides as truth values."""
        return as_bool(left, "OrSubstitution") | as_bool(right, "OrSubstitution")


class EqualsSubstitution(_Binary):
    """Equality of texts; true/1 and false/0 are equal, and numbers are compared as numbers."""

    def combine(self, left: str, right: str) -> bool:
        """Compare as texts, as truth values and as numbers."""
        if left == right:
            return True
        for texts in (TRUE_TEXTS, FALSE_TEXTS):
            if left.lower() in texts and right.lower() in texts:
                return True
        try:
            return isclose(float(left), float(right))
        except ValueError:
            return False


class NotEqualsSubstitution(EqualsSubstitution):
    """The opposite of EqualsSubstitution."""

    def combine(self, left: str, right: str) -> bool:
        """Negate the comparison."""
        return not super().combine(left, right)


class IfElseSubstitution(Substitution):
    """One of two texts, by a condition."""

    def __init__(
        self, condition: SomeSubstitutions, if_value: SomeSubstitutions = "", else_value: SomeSubstitutions = ""
    ) -> None:
        self.condition = condition
        self.if_value = if_value
        self.else_value = else_value

    def perform(self, context: LaunchContext) -> str:
        """Return the chosen text; the other one is not performed."""
        chosen = as_bool(perform(context, self.condition), "IfElseSubstitution")
        return perform(context, self.if_value if chosen else self.else_value)


class PythonExpression(Substitution):
    """A small expression over literals (`expressions.py` says which)."""

    def __init__(self, expression: SomeSubstitutions) -> None:
        self.expression = expression

    def perform(self, context: LaunchContext) -> str:
        """Return the expression's value as text."""
        return str(evaluate(perform(context, self.expression)))
