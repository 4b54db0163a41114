"""Parameters as one table: declared with descriptions, fixed after the start unless said otherwise."""

from __future__ import annotations

import dataclasses
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.node import Node

from robosteer_rig.errors import RobosteerError


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
    """Declare every parameter of the table and return the values they start with.

    Raises:
        RobosteerError: for a value of another type.
    """
    values = {}
    for entry in table:
        descriptor = ParameterDescriptor(description=entry.description, read_only=not entry.changeable)
        try:
            values[entry.name] = node.declare_parameter(entry.name, entry.default, descriptor).value
        except InvalidParameterTypeException as error:
            kind = type(entry.default).__name__
            example = f"; write it like {entry.default!r}" if isinstance(entry.default, float) else ""
            raise RobosteerError(f"{entry.name}: found another type, expected {kind}{example} ({error})") from None
    return values
