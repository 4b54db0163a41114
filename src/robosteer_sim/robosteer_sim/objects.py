"""What may lie on the table: kinds of objects, their forms and colours. `shapes` builds them.

A body's frame lies in the middle of what rests on the table, except that a cube's and a marker's lie in their centres,
and a button's on top of its cap. A marker's axis is its x axis.
"""

# MuJoCo's compiled modules carry no type information.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from robosteer_sim.gl import mujoco
from robosteer_sim.shapes import (
    BUTTON_CASE_M,
    CASE_COLOUR,
    TRIM,
    WALLS,
    add_ball,
    add_bowl,
    add_box,
    add_button,
    add_cup,
    add_marker,
    add_mug,
)

Colour = tuple[float, float, float, float]

CUBE_EDGE_M = 0.04
COLOURS: dict[str, Colour] = {
    "red": (0.80, 0.07, 0.06, 1.0),
    "green": (0.08, 0.58, 0.16, 1.0),
    "blue": (0.08, 0.22, 0.78, 1.0),
    "yellow": (0.93, 0.80, 0.08, 1.0),
    "purple": (0.45, 0.15, 0.60, 1.0),
    "grey": CASE_COLOUR,
}


@dataclasses.dataclass(frozen=True)
class Form:
    """One form of a kind.

    Attributes:
        size: m; what they mean is the kind's matter.
        rgba: a colour of its own; None for the one that the object's name says.
    """

    size: tuple[float, ...]
    rgba: Colour | None = None


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of object.

    Attributes:
        build: adds a form to the model: `build(spec, slot, size)`.
        forms: the ordinary one first, then those of the variation `form`.
        rest: height of the body's frame over the table, m, from the size.
        half_length: from the centre to an end along the x axis, m, from the size; 0 for what has no ends.
        radius: of the footprint, m, from the size.
        rgba: where the object's name says no colour.
        max_yaw: every yaw that looks different is within plus or minus this, rad.
        stands: whether it must not be tipped over.
    """

    build: Callable[[mujoco.MjSpec, str, tuple[float, ...]], None]
    forms: tuple[Form, ...]
    rest: Callable[[tuple[float, ...]], float]
    radius: Callable[[tuple[float, ...]], float]
    half_length: Callable[[tuple[float, ...]], float] = lambda _size: 0.0
    rgba: Colour = COLOURS["grey"]
    max_yaw: float = math.pi
    stands: bool = False


KINDS: dict[str, Kind] = {
    "cube": Kind(
        add_box,
        (Form((CUBE_EDGE_M,)), Form((0.034,)), Form((0.046,))),
        rest=lambda size: size[0] / 2,
        radius=lambda size: size[0] * 0.71,
        max_yaw=math.pi / 4,
    ),
    "block": Kind(
        add_box,
        (Form((0.07, 0.03, 0.025)),),
        rest=lambda size: size[2] / 2,
        radius=lambda size: size[0] / 2,
        max_yaw=math.pi / 2,
    ),
    "ball": Kind(add_ball, (Form((0.02,)),), rest=lambda size: size[0], radius=lambda size: size[0]),
    "marker": Kind(
        add_marker,
        (
            Form((0.12, 0.018)),
            Form((0.14, 0.014), (0.10, 0.40, 0.20, 1.0)),
            Form((0.10, 0.024), (0.70, 0.10, 0.10, 1.0)),
        ),
        rest=lambda size: size[1] / 2,
        half_length=lambda size: size[0] / 2,
        radius=lambda size: size[0] / 2,
        rgba=(0.10, 0.10, 0.13, 1.0),
    ),
    "mug": Kind(
        add_mug,
        (
            Form((0.038, 0.09)),
            Form((0.038, 0.09), (0.12, 0.16, 0.45, 1.0)),
            Form((0.042, 0.08), (0.15, 0.15, 0.16, 1.0)),
        ),
        rest=lambda _size: 0.0,
        radius=lambda size: size[0] + 0.005,
        rgba=(0.92, 0.91, 0.86, 1.0),
        stands=True,
    ),
    "bowl": Kind(
        add_bowl,
        (Form((0.07, 0.045, 0.05)), Form((0.078, 0.05, 0.045)), Form((0.065, 0.05, 0.055))),
        rest=lambda _size: 0.0,
        radius=lambda size: size[0] + 0.005,
        max_yaw=math.pi / WALLS,
        stands=True,
    ),
    "cup": Kind(
        add_cup,
        (Form((0.034, 0.08)), Form((0.034, 0.095)), Form((0.04, 0.07))),
        rest=lambda _size: 0.0,
        radius=lambda size: size[0] + 0.005,
        max_yaw=math.pi / WALLS,
        stands=True,
    ),
    "button": Kind(
        add_button,
        (Form((0.028, 0.014)), Form((0.022, 0.018)), Form((0.034, 0.012))),
        rest=lambda size: BUTTON_CASE_M + size[1],
        radius=lambda size: size[0] + 0.014,
        max_yaw=math.pi / 4,
    ),
}


def kind_of(name: str) -> str:
    """The kind of an object: "cube" for "red cube"."""
    return name.split()[-1]


def form_of(name: str, form: int) -> tuple[Kind, Form]:
    """An object's kind and form."""
    kind = KINDS[kind_of(name)]
    return kind, kind.forms[form]


def colour_of(name: str, form: int) -> Colour:
    """What colour an object is: its form's own, else the one in its name, else its kind's."""
    kind, found = form_of(name, form)
    if found.rgba is not None:
        return found.rgba
    words = name.split()
    return COLOURS[words[0]] if len(words) > 1 else kind.rgba


def is_trim(geom_name: str) -> bool:
    """Whether a geom keeps its own colour."""
    return geom_name.endswith(TRIM)
