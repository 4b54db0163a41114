"""The gripper: a stand-in for the Robotiq 2F-85 with two flat pads on coupled slides.

The real linkage keeps the pads parallel over the whole stroke; two slides with one drive have the same opening, force
and speed at a fraction of the computation. Frame `tcp`: between the pads, z along the approach direction, y along the
stroke.
"""

# MuJoCo's compiled modules carry no type information.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math

import numpy as np

from robosteer_sim.gl import mujoco
from robosteer_sim.panda import ARM_CONTACT, DARK, GREY, add_skin

STROKE_M = 0.085
"""Opening between the pads when open."""
SPEED_M_PER_S = 0.15
"""Speed of the opening, the real gripper's maximum."""
KNUCKLE_CLOSED_RAD = 0.7929
"""Position of `robotiq_85_left_knuckle_joint` when closed; 0 when open."""
TCP_OFFSET_M = 0.1628
"""From the flange to the centre of the pads."""
MOUNT_YAW_RAD = -math.pi / 4
"""About the flange's z axis, so that at joint 7 = pi/4 the pads move along the base's y axis."""
PADS = ("pad_left", "pad_right")
ACTUATOR = "gripper"
_HALF = STROKE_M / 2


def _add_finger(hand: mujoco.MjsBody, name: str, side: float) -> None:
    """One finger on the side `side` (+1 or -1) of the y axis; its slide is 0 when open and `_HALF` when closed."""
    finger = hand.add_body(name=f"finger_{name}", pos=[0, side * _HALF, TCP_OFFSET_M], gravcomp=1.0)
    finger.add_joint(
        name=f"finger_{name}",
        type=mujoco.mjtJoint.mjJNT_SLIDE,
        axis=[0, -side, 0],
        limited=True,
        range=[-0.001, _HALF + 0.001],
        armature=0.05,
        damping=8.0,
    )
    box = mujoco.mjtGeom.mjGEOM_BOX
    finger.add_geom(
        name=f"pad_{name}",
        type=box,
        pos=[0, side * 0.004, 0],
        size=[0.011, 0.004, 0.017],
        rgba=DARK,
        mass=0.03,
        contype=2,
        conaffinity=0,
        condim=4,
        friction=[1.5, 0.02, 0.0001],
        priority=1,
        solref=[0.008, 1.0],
        solimp=[0.95, 0.99, 0.001, 0.5, 2.0],
    )
    finger.add_geom(
        type=box, pos=[0, side * 0.013, -0.014], size=[0.010, 0.005, 0.030], rgba=GREY, mass=0.05, **ARM_CONTACT
    )
    finger.add_geom(
        type=box, pos=[0, side * 0.014, -0.062], size=[0.012, 0.010, 0.022], rgba=DARK, mass=0.05, **ARM_CONTACT
    )


def add_gripper(spec: mujoco.MjSpec, flange: mujoco.MjsBody) -> mujoco.MjsBody:
    """Attach the gripper to the flange.

    Returns:
        The hand's body, whose frame is the flange's turned by `MOUNT_YAW_RAD`.
    """
    half = MOUNT_YAW_RAD / 2
    hand = flange.add_body(
        name="hand",
        quat=[math.cos(half), 0, 0, math.sin(half)],
        mass=0.75,
        ipos=[0, 0, 0.05],
        inertia=[1.2e-3, 1.2e-3, 6e-4],
        explicitinertial=True,
        gravcomp=1.0,
    )
    add_skin(hand, ((0, 0, 0.0), (0, 0, 0.012), 0.042, GREY, False))
    add_skin(hand, ((0, 0, 0.012), (0, 0, 0.075), 0.034, DARK, False))
    hand.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=[0, 0, 0.078],
        size=[0.018, 0.066, 0.012],
        rgba=DARK,
        mass=0.0,
        material="robot",
        **ARM_CONTACT,
    )
    _add_finger(hand, "left", 1.0)
    _add_finger(hand, "right", -1.0)
    hand.add_site(name="tcp", pos=[0, 0, TCP_OFFSET_M], size=[0.002, 0, 0], rgba=[0, 0, 0, 0])
    _couple_and_drive(spec)
    return hand


def _couple_and_drive(spec: mujoco.MjSpec) -> None:
    """Both slides move alike, and one position drive moves their mean."""
    coupling = spec.add_equality(
        name="fingers",
        type=mujoco.mjtEq.mjEQ_JOINT,
        objtype=mujoco.mjtObj.mjOBJ_JOINT,
        name1="finger_left",
        name2="finger_right",
        solref=[0.005, 1.0],
        solimp=[0.95, 0.99, 0.001, 0.5, 2.0],
    )
    coupling.data[:5] = [0.0, 1.0, 0.0, 0.0, 0.0]  # left = 0 + 1 * right
    tendon = spec.add_tendon(name="fingers")
    tendon.wrap_joint("finger_left", 0.5)
    tendon.wrap_joint("finger_right", 0.5)
    stiffness = 1200.0
    spec.add_actuator(
        name=ACTUATOR,
        target="fingers",
        trntype=mujoco.mjtTrn.mjTRN_TENDON,
        gaintype=mujoco.mjtGain.mjGAIN_FIXED,
        biastype=mujoco.mjtBias.mjBIAS_AFFINE,
        gainprm=[stiffness] + [0.0] * 9,
        biasprm=[0.0, -stiffness, -20.0] + [0.0] * 7,
        ctrllimited=True,
        ctrlrange=[0.0, _HALF],
        forcelimited=True,
        forcerange=[-30.0, 30.0],
    )


def tool_in_flange() -> np.ndarray:
    """(4, 4) pose of the frame `tcp` in the flange's frame, m."""
    c, s = math.cos(MOUNT_YAW_RAD), math.sin(MOUNT_YAW_RAD)
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, TCP_OFFSET_M], [0, 0, 0, 1]], dtype=float)


def slide_from_normalised(position: float) -> float:
    """Slide target in m of a gripper command, 0 open ... 1 closed."""
    return float(np.clip(position, 0.0, 1.0)) * _HALF


def normalised_from_slide(slide_m: float) -> float:
    """Gripper position, 0 open ... 1 closed, of a measured slide position."""
    return float(np.clip(slide_m / _HALF, 0.0, 1.0))
