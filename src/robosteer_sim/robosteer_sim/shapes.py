"""How objects are built of MuJoCo's primitives: `add_kind(spec, slot, size)` for each kind in `objects.KINDS`."""

# MuJoCo's compiled modules carry no type information.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math

import numpy as np

from robosteer_sim.gl import mujoco

CASE_COLOUR = (0.50, 0.51, 0.52, 1.0)
BUTTON_TRAVEL_M = 0.008
_BUTTON_STIFFNESS = 600.0  # N/m
_BUTTON_PRELOAD_N = 6.0
BUTTON_CASE_M = 0.024
_FLOOR_M = 0.004
WALLS = 12
TRIM = "_trim"
"""In the name of a geom that keeps its own colour."""

_SURFACE = {
    "material": "object",
    "contype": 1,
    "conaffinity": 3,
    "condim": 4,
    "friction": [0.9, 0.01, 0.0001],
    "solref": [0.01, 1.0],
}
_ROLLING = _SURFACE | {"condim": 6, "friction": [0.9, 0.01, 0.001]}
_PAINT = {"material": "object", "contype": 0, "conaffinity": 0, "mass": 0.0}


def _free_body(spec: mujoco.MjSpec, slot: str) -> mujoco.MjsBody:
    body = spec.worldbody.add_body(name=slot)
    body.add_freejoint(name=slot)
    return body


def add_box(spec: mujoco.MjSpec, slot: str, size: tuple[float, ...]) -> None:
    """A box; `size` is its edges, or its one edge. Its mass is a cube's of 4 cm."""
    edges = size * 3 if len(size) == 1 else size
    half = [edge / 2 for edge in edges]
    _free_body(spec, slot).add_geom(name=slot, type=mujoco.mjtGeom.mjGEOM_BOX, size=half, mass=0.05, **_SURFACE)


def add_ball(spec: mujoco.MjSpec, slot: str, size: tuple[float, ...]) -> None:
    """A ball of radius `size[0]`."""
    sphere = mujoco.mjtGeom.mjGEOM_SPHERE
    _free_body(spec, slot).add_geom(name=slot, type=sphere, size=[size[0], 0, 0], mass=0.04, **_ROLLING)


def add_marker(spec: mujoco.MjSpec, slot: str, size: tuple[float, ...]) -> None:
    """A pen of length `size[0]` and diameter `size[1]` with a cap; a capsule lies stably."""
    length, radius = size[0], size[1] / 2
    body, end = _free_body(spec, slot), length / 2 - radius
    body.add_geom(
        name=slot,
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        fromto=[-end, 0, 0, end, 0, 0],
        size=[radius, 0, 0],
        mass=0.02,
        **_ROLLING,
    )
    body.add_geom(
        name=f"{slot}{TRIM}",
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        fromto=[end - 0.25 * length, 0, 0, end, 0, 0],
        size=[radius + 0.0005, 0, 0],
        rgba=[0.93, 0.93, 0.95, 1.0],
        **_PAINT,
    )


def _add_vessel(
    body: mujoco.MjsBody, slot: str, bottom: float, top: float, height: float, mass: float, wall: float = 0.005
) -> None:
    """A hollow vessel: a ring of walls on a floor.

    Args:
        body: to add it to.
        slot: begins the geoms' names.
        bottom: inner radius at the floor, m.
        top: inner radius at the rim, m.
        height: m.
        mass: kg.
        wall: thickness, m.
    """
    box = mujoco.mjtGeom.mjGEOM_BOX
    side = bottom / math.sqrt(2)
    for number in range(2):  # two squares, an eighth of a turn apart: boxes stand on many points, a disc on one
        turn = number * math.pi / 8
        body.add_geom(
            name=f"{slot}_floor_{number}",
            type=box,
            pos=[0, 0, _FLOOR_M / 2],
            quat=[math.cos(turn), 0, 0, math.sin(turn)],
            size=[side, side, _FLOOR_M / 2],
            mass=mass / 4,
            **_SURFACE,
        )
    body.add_geom(
        name=f"{slot}_floor_paint",
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        pos=[0, 0, _FLOOR_M / 2],
        size=[bottom + wall / 2, _FLOOR_M / 2 + 0.0002, 0],
        **_PAINT,
    )
    slope = math.atan2(top - bottom, height)
    middle = (bottom + top) / 2 + wall / 2
    width = (max(bottom, top) + wall) * math.tan(math.pi / WALLS)
    for number in range(WALLS):
        angle = 2 * math.pi * number / WALLS
        radial = np.array([math.cos(angle), math.sin(angle), 0.0])
        up = radial * math.sin(slope) + np.array([0.0, 0.0, math.cos(slope)])
        normal = radial * math.cos(slope) - np.array([0.0, 0.0, math.sin(slope)])
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, np.stack([normal, np.cross(up, normal), up], axis=1).reshape(-1))
        body.add_geom(
            name=f"{slot}_wall_{number}",
            type=box,
            pos=radial * middle + [0, 0, height / 2 + 0.0005],
            quat=quaternion,
            size=[wall / 2, width, (height - 0.001) / 2 / math.cos(slope)],
            mass=mass / 2 / WALLS,
            **_SURFACE,
        )


def add_mug(spec: mujoco.MjSpec, slot: str, size: tuple[float, ...]) -> None:
    """A mug of inner radius `size[0]` and height `size[1]`, its handle along the x axis."""
    radius, height = size
    body = _free_body(spec, slot)
    _add_vessel(body, slot, radius, radius, height, 0.2)
    near, far = radius + 0.004, radius + 0.028
    low, high = 0.25 * height, 0.8 * height
    for number, (start, end) in enumerate(
        (((near, low), (far, low)), ((far, low), (far, high)), ((far, high), (near, high)))
    ):
        body.add_geom(
            name=f"{slot}_handle_{number}",
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            fromto=[start[0], 0, start[1], end[0], 0, end[1]],
            size=[0.005, 0, 0],
            mass=0.005,
            **_SURFACE,
        )


def add_bowl(spec: mujoco.MjSpec, slot: str, size: tuple[float, ...]) -> None:
    """A bowl: inner radius at the rim, at the floor, and height."""
    _add_vessel(_free_body(spec, slot), slot, size[1], size[0], size[2], 0.3)


def add_cup(spec: mujoco.MjSpec, slot: str, size: tuple[float, ...]) -> None:
    """A cup without a handle: inner radius and height."""
    _add_vessel(_free_body(spec, slot), slot, 0.9 * size[0], size[0], size[1], 0.12)


def add_button(spec: mujoco.MjSpec, slot: str, size: tuple[float, ...]) -> None:
    """A button fixed to the table: its cap's radius and its height over the case."""
    radius, height = size
    case = spec.worldbody.add_body(name=f"{slot}_case")
    half = [radius + 0.014, radius + 0.014, BUTTON_CASE_M / 2]
    grey, box = CASE_COLOUR, mujoco.mjtGeom.mjGEOM_BOX
    case.add_geom(name=f"{slot}{TRIM}", type=box, pos=[0, 0, half[2]], size=half, rgba=grey, **_SURFACE)
    cap = case.add_body(name=slot, pos=[0, 0, BUTTON_CASE_M + height], gravcomp=1.0)
    cap.add_joint(
        name=slot,
        type=mujoco.mjtJoint.mjJNT_SLIDE,
        axis=[0, 0, -1],
        limited=True,
        range=[0.0, BUTTON_TRAVEL_M],
        stiffness=_BUTTON_STIFFNESS,
        springref=-_BUTTON_PRELOAD_N / _BUTTON_STIFFNESS,
        damping=6.0,
        armature=0.2,  # a lighter cap would press through its soft stop
        solref_limit=[0.008, 1.0],
        solimp_limit=[0.99, 0.999, 0.0005, 0.5, 2.0],
    )
    # It touches the arm alone; what stops it is its joint, not the case.
    cap.add_geom(
        name=slot,
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        pos=[0, 0, -height / 2 - 0.004],
        size=[radius, height / 2 + 0.004, 0],
        mass=0.03,
        **_SURFACE | {"contype": 0, "conaffinity": 2},
    )
