"""Parameters that a node cannot do without."""

from __future__ import annotations

from robosteer_rig.errors import RobosteerError


def required(name: str, value: object, wanted: str, example: str = "PATH") -> str:
    """Return the text of a parameter that has no default which makes sense.

    A launch file gives its nodes what they need, and its arguments are checked before it starts anything; so whoever
    reads this complaint has started the node by itself, with `robosteer run` or `ros2 run`.

    Args:
        name: of the parameter.
        value: what the node was given.
        wanted: what it should be, such as "the path of a rig file".
        example: what to type as its value.

    Raises:
        RobosteerError: for an empty value.
    """
    text = str(value).strip()
    if not text:
        raise RobosteerError(f"parameter {name}: found none, expected {wanted}; add --ros-args -p {name}:={example}")
    return text


def required_rig(value: object) -> str:
    """Return the path of the rig file, as `required`."""
    return required("rig", value, "the path of a rig file")
