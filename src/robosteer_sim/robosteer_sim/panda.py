"""The arm: Franka Emika Panda as an MjSpec body tree with primitive skins.

Kinematics: the manufacturer's public modified Denavit-Hartenberg table. Inertias: Gaz, Cognetti, Oliva, Robuffo
Giordano, De Luca, "Dynamic identification of the Franka Emika Panda robot with retrieval of feasible parameters", RA-L
2019. Limits: the manufacturer's data sheet. Skins are capsules and cylinders: no mesh files, and a third of the drawing
time.
"""

# MuJoCo's compiled modules carry no type information.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import dataclasses
import math

import numpy as np

from robosteer_sim.gl import mujoco

JOINT_NAMES = tuple(f"panda_joint{i}" for i in range(1, 8))
READY_POSITION = np.array([0.0, -0.35, 0.0, -2.35, 0.0, 2.0, math.pi / 4])
"""(7,) rad: the tool points down, in the middle of the workspace's near half."""
FLANGE_OFFSET_M = 0.107
"""From the last joint's frame to the flange, along its z axis."""

WHITE = (0.92, 0.92, 0.90, 1.0)
GREY = (0.62, 0.64, 0.66, 1.0)
DARK = (0.16, 0.16, 0.17, 1.0)

ARM_CONTACT = {"contype": 2, "conaffinity": 0}
"""The arm touches the table and the objects, never itself: its limits keep it apart in the workspace."""

# Stiffness of the joint servos, N m/rad. Damping over stiffness is the lag behind the commanded velocity.
_STIFFNESS = (4500.0, 4500.0, 3500.0, 3500.0, 2000.0, 2000.0, 2000.0)
_LAG_S = 0.03

Vector = tuple[float, float, float]
# A skin: start, end (m, in the link's frame), radius (m), colour, whether the ends are round.
Skin = tuple[Vector, Vector, float, tuple[float, float, float, float], bool]


@dataclasses.dataclass(frozen=True)
class Link:
    """One link with the joint that moves it.

    Attributes:
        position: origin in the parent link's frame, m.
        roll: rotation about the parent's x axis, rad.
        range: joint limits, rad.
        torque_max: N m.
        mass: kg.
        centre: centre of mass in the link's frame, m.
        inertia: xx, yy, zz, xy, xz, yz about the centre of mass, kg m2.
        skins: what is drawn and touches things.
    """

    position: Vector
    roll: float
    range: tuple[float, float]
    torque_max: float
    mass: float
    centre: Vector
    inertia: tuple[float, float, float, float, float, float]
    skins: tuple[Skin, ...]


_Q = math.pi / 2
LINKS = (
    Link(
        (0, 0, 0.333), 0.0, (-2.8973, 2.8973), 87.0, 4.970684, (0.003875, 0.002081, -0.04762),
        (0.70337, 0.70661, 0.009117, -0.000139, 0.006772, 0.019169),
        (((0, 0, -0.193), (0, 0, -0.06), 0.060, WHITE, False), ((0, -0.055, 0), (0, 0.055, 0), 0.062, WHITE, True)),
    ),
    Link(
        (0, 0, 0), -_Q, (-1.7628, 1.7628), 87.0, 0.646926, (-0.003141, -0.02872, 0.003495),
        (0.007962, 0.02811, 0.025995, -0.003925, 0.010254, 0.000704),
        (((0, 0, -0.085), (0, 0, 0.085), 0.058, GREY, False), ((0, -0.04, 0), (0, -0.17, 0), 0.058, WHITE, True)),
    ),
    Link(
        (0, -0.316, 0), _Q, (-2.8973, 2.8973), 87.0, 3.228604, (0.027518, 0.039252, -0.066502),
        (0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805),
        (((0, 0, -0.145), (0, 0, -0.09), 0.059, GREY, False), ((0, 0, -0.08), (0.05, 0, -0.02), 0.055, WHITE, True),
         ((0.0825, -0.05, 0), (0.0825, 0.05, 0), 0.054, WHITE, True)),
    ),
    Link(
        (0.0825, 0, 0), _Q, (-3.0718, -0.0698), 87.0, 3.587895, (-0.05317, 0.104419, 0.027454),
        (0.025853, 0.019552, 0.028323, 0.007796, -0.001332, 0.008641),
        (((0, 0, -0.075), (0, 0, 0.075), 0.050, GREY, False),
         ((-0.02, 0.02, 0), (-0.0825, 0.085, 0), 0.052, WHITE, True),
         ((-0.0825, 0.09, 0), (-0.0825, 0.14, 0), 0.054, GREY, False)),
    ),
    Link(
        (-0.0825, 0.384, 0), -_Q, (-2.8973, 2.8973), 12.0, 1.225946, (-0.011953, 0.041065, -0.038437),
        (0.035549, 0.029474, 0.008627, -0.002117, -0.004037, 0.000229),
        (((0, 0, -0.24), (0, 0.03, -0.16), 0.052, WHITE, True),
         ((0, 0.05, -0.16), (0, 0.07, -0.03), 0.035, WHITE, True), ((0, 0.05, 0), (0, -0.03, 0), 0.050, WHITE, True)),
    ),
    Link(
        (0, 0, 0), _Q, (-0.0175, 3.7525), 12.0, 1.666555, (0.060149, -0.014117, -0.010517),
        (0.001964, 0.004354, 0.005433, 0.000109, -0.001158, 0.000341),
        (((0, 0, -0.06), (0, 0, 0.06), 0.047, GREY, False), ((0.02, 0, 0), (0.088, 0, 0), 0.046, WHITE, True)),
    ),
    Link(
        (0.088, 0, 0), _Q, (-2.8973, 2.8973), 12.0, 0.735522, (0.010517, -0.004252, 0.061597),
        (0.012516, 0.010027, 0.004815, -0.000428, -0.001196, -0.000741),
        (((0, 0, 0.03), (0, 0, 0.09), 0.048, WHITE, False), ((0, 0, 0.085), (0, 0, 0.107), 0.040, GREY, False)),
    ),
)  # fmt: skip


def add_skin(body: mujoco.MjsBody, skin: Skin) -> mujoco.MjsGeom:
    """One massless primitive between two points of the body's frame."""
    start, end, radius, colour, is_round = skin
    kind = mujoco.mjtGeom.mjGEOM_CAPSULE if is_round else mujoco.mjtGeom.mjGEOM_CYLINDER
    return body.add_geom(
        type=kind, fromto=[*start, *end], size=[radius, 0, 0], rgba=colour, mass=0.0, material="robot", **ARM_CONTACT
    )


def _add_servo(spec: mujoco.MjSpec, joint: str, link: Link, stiffness: float) -> None:
    """A joint-velocity servo: the commanded velocity is integrated to a position that a stiff spring follows."""
    spec.add_actuator(
        name=joint,
        target=joint,
        trntype=mujoco.mjtTrn.mjTRN_JOINT,
        dyntype=mujoco.mjtDyn.mjDYN_INTEGRATOR,
        gaintype=mujoco.mjtGain.mjGAIN_FIXED,
        biastype=mujoco.mjtBias.mjBIAS_AFFINE,
        gainprm=[stiffness] + [0.0] * 9,
        biasprm=[0.0, -stiffness, -stiffness * _LAG_S] + [0.0] * 7,
        actlimited=True,
        actrange=link.range,
        forcelimited=True,
        forcerange=(-link.torque_max, link.torque_max),
    )


def add_panda(spec: mujoco.MjSpec) -> mujoco.MjsBody:
    """Add the arm at the world's origin, with its servos.

    Returns:
        The flange's body, to which a gripper is attached.
    """
    body = spec.worldbody.add_body(name="panda_link0")
    add_skin(body, ((0, 0, 0.0), (0, 0, 0.03), 0.10, GREY, False))
    add_skin(body, ((0, 0, 0.03), (0, 0, 0.14), 0.075, WHITE, False))
    add_skin(body, ((-0.12, 0, 0.05), (0, 0, 0.06), 0.05, WHITE, True))
    for geom in body.geoms:
        geom.contype = 0
    for number, (link, stiffness) in enumerate(zip(LINKS, _STIFFNESS, strict=True), start=1):
        half = link.roll / 2
        body = body.add_body(
            name=f"panda_link{number}",
            pos=link.position,
            quat=[math.cos(half), math.sin(half), 0, 0],
            mass=link.mass,
            ipos=link.centre,
            fullinertia=link.inertia,
            explicitinertial=True,
            gravcomp=1.0,
        )
        joint = JOINT_NAMES[number - 1]
        body.add_joint(
            name=joint,
            type=mujoco.mjtJoint.mjJNT_HINGE,
            axis=[0, 0, 1],
            limited=True,
            range=link.range,
            armature=0.1,
            damping=1.0,
        )
        for skin in link.skins:
            add_skin(body, skin)
        _add_servo(spec, joint, link, stiffness)
    return body.add_body(name="panda_flange", pos=[0, 0, FLANGE_OFFSET_M], gravcomp=1.0)
