"""The proof of a rate limiter: parameters of the controller's process that must have stated values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from robosteer_rig.errors import RobosteerError


@dataclasses.dataclass(frozen=True)
class Requirement:
    """One parameter that must have one value.

    Attributes:
        node: fully qualified name.
        parameter: its name.
        value: as text; true and false for booleans.
    """

    node: str
    parameter: str
    value: str


def parse_requirements(lines: Sequence[str]) -> tuple[Requirement, ...]:
    """Read "/node:parameter=value" lines; empty ones are left out.

    Raises:
        RobosteerError: for a line of another form.
    """
    found = []
    for line in filter(None, (line.strip() for line in lines)):
        node, colon, rest = line.partition(":")
        parameter, equals, value = rest.partition("=")
        if not (node.startswith("/") and colon and parameter and equals and value):
            raise RobosteerError(
                f"limiter_proof: found {line!r}, expected /node:parameter=value, "
                "for example /controller_manager:enforce_command_limits=true"
            )
        found.append(Requirement(node, parameter, value.strip()))
    return tuple(found)


class Answers:
    """What the nodes have said, each for as long as it counts.

    Args:
        max_age_s: a node that has not answered for so long says nothing.
    """

    def __init__(self, max_age_s: float) -> None:
        self._max_age_ns = int(max_age_s * 1e9)
        self._said: dict[str, tuple[Mapping[str, object], int]] = {}

    def take(self, node: str, values: Mapping[str, object], now_ns: int) -> None:
        """Note a node's answer: parameter -> value, None for one that it does not have.

        Args:
            node: fully qualified name.
            values: of all that it was asked for.
            now_ns: monotonic clock.
        """
        self._said[node] = values, now_ns

    def fresh(self, now_ns: int) -> dict[tuple[str, str], object]:
        """(node, parameter) -> value of the answers that count, as `unproved` takes them."""
        recent = {node: values for node, (values, at_ns) in self._said.items() if now_ns - at_ns <= self._max_age_ns}
        return {(node, name): value for node, values in recent.items() for name, value in values.items()}


def as_text(value: object) -> str:
    """A parameter's value as `Requirement.value` writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def unproved(requirements: Sequence[Requirement], found: Mapping[tuple[str, str], object]) -> str:
    """The first requirement that is not met, in words, or an empty string.

    Args:
        requirements: all must hold.
        found: (node, parameter) -> value; None for a parameter that the node does not have.
    """
    for need in requirements:
        key = need.node, need.parameter
        value = found.get(key)
        if value is None:
            return f"{need.node} does not say {need.parameter}, expected {need.value}"
        if as_text(value) != need.value:
            return f"{need.node} has {need.parameter}={as_text(value)}, expected {need.value}"
    return ""
