"""Parameters as one table: declared with descriptions, fixed after the start unless said otherwise."""

from __future__ import annotations

import dataclasses
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes:
        name: of the parameter.
        default: also fixes the type.
        description: with the unit.
        changeable: whether it may be set while the node runs.
    """

    name: str
    default: Any
    description: str
    changeable: bool = False


def declare(node: Node, table: tuple[Parameter, ...]) -> dict[str, Any]:
    """Declare every parameter of the table and return the values they start with."""
    values = {}
    for entry in table:
        descriptor = ParameterDescriptor(description=entry.description, read_only=not entry.changeable)
        values[entry.name] = node.declare_parameter(entry.name, entry.default, descriptor).value
    return values
