"""One compiled cell: the model with room for certain objects, its state, and where to find things in both."""

# MuJoCo's compiled modules carry no type information.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robosteer_sim.cell_model import Slot, build_model, slot_names
from robosteer_sim.dressing import Dressing
from robosteer_sim.gl import mujoco
from robosteer_sim.gripper import ACTUATOR, PADS
from robosteer_sim.layout import PlacedObject
from robosteer_sim.objects import colour_of, form_of, is_trim
from robosteer_sim.panda import JOINT_NAMES

_PARKED_Z_M = -5.0


class Berth:
    """The place in a model of one object that may be in the scene.

    Attributes:
        slot: kind and form.
        body: the object's body.
        qpos: of its free joint in `qpos`; None for what is fixed to the table.
        geoms: everything that it consists of.
    """

    def __init__(self, model: mujoco.MjModel, name: str, slot: Slot) -> None:
        self.slot = slot
        self.body = model.body(name).id
        joint = model.joint(name)
        self.qpos = None
        self._base = self.body
        if joint.type[0] == mujoco.mjtJoint.mjJNT_FREE:
            self.qpos = slice(joint.qposadr[0], joint.qposadr[0] + 7)
        else:
            self._base = model.body_parentid[self.body]
        self.geoms = np.flatnonzero(np.isin(model.geom_bodyid, [self.body, self._base]))
        self._painted = [int(g) for g in self.geoms if not is_trim(model.geom(g).name)]

    def place(self, model: mujoco.MjModel, data: mujoco.MjData, placed: PlacedObject) -> None:
        """Put the object on the table, at rest."""
        kind, form = form_of(placed.name, placed.form)
        half = placed.yaw / 2
        turn = [np.cos(half), 0.0, 0.0, np.sin(half)]
        for geom in self._painted:
            model.geom_rgba[geom] = placed.rgba or colour_of(placed.name, placed.form)
        if self.qpos is None:
            model.body_pos[self._base] = [*placed.position, 0.0]
            model.body_quat[self._base] = turn
            return
        # A parked object floats out of sight and touches nothing, at no cost to the solver.
        model.body_gravcomp[self.body] = 0.0
        data.qpos[self.qpos] = [*placed.position, kind.rest(form.size), *turn]

    def park(self, model: mujoco.MjModel, data: mujoco.MjData, number: int) -> None:
        """Put the object out of the way."""
        if self.qpos is None:
            model.body_pos[self._base] = [float(number), 0.0, _PARKED_Z_M]
            return
        model.body_gravcomp[self.body] = 1.0
        data.qpos[self.qpos] = [float(number), 0.0, _PARKED_Z_M, 1.0, 0.0, 0.0, 0.0]


class Stage:
    """A model, its state, and the addresses in them.

    Attributes:
        model: compiled; objects' colours and places, lights and cameras are set with every scene.
        data: MuJoCo's state.
        dressing: changes light, table and cameras.
        arm_qpos: (7,) of the arm's joints in `qpos`.
        arm_dof: (7,) of the arm's joints in `qvel`.
        servos: (7,) of the arm's servos among the actuators.
        gripper: of the gripper's drive among the actuators.
        fingers: (2,) of the pads' slides in `qpos`.
        pads: (2,) their geoms.
        tip: the site between the pads.
        berths: the objects that there is room for.
        servo_gains: of the arm's servos, gain and bias.
        servos_on: whether they are in force.
    """

    def __init__(self, slots: Sequence[Slot], samples: int) -> None:
        """Compile.

        Args:
            slots: the objects to have room for.
            samples: as for `build_model`.
        """
        model = self.model = build_model(samples, slots)
        self.data = mujoco.MjData(model)
        self.dressing = Dressing(model)
        self.arm_qpos = np.array([model.joint(n).qposadr[0] for n in JOINT_NAMES])
        self.arm_dof = np.array([model.joint(n).dofadr[0] for n in JOINT_NAMES])
        self.servos = np.array([model.actuator(n).id for n in JOINT_NAMES])
        self.gripper = model.actuator(ACTUATOR).id
        self.fingers = [model.joint(f"finger_{side}").qposadr[0] for side in ("left", "right")]
        self.pads = [model.geom(name).id for name in PADS]
        self.tip = model.site("tcp").id
        self.berths = [Berth(model, name, slot) for name, slot in zip(slot_names(slots), slots, strict=True)]
        self.servo_gains = model.actuator_gainprm[self.servos].copy(), model.actuator_biasprm[self.servos].copy()
        self.servos_on = True

    def use_servos(self, on: bool) -> None:
        """Switch the velocity servos on or off."""
        if on is self.servos_on:
            return
        self.servos_on = on
        model = self.model
        gains = self.servo_gains if on else (0.0, 0.0)
        model.actuator_gainprm[self.servos], model.actuator_biasprm[self.servos] = gains
        self.data.qfrc_applied[self.arm_dof] = 0.0

    def set_up(self, objects: Sequence[PlacedObject]) -> list[Berth]:
        """Place the objects, park the rest.

        Returns:
            Where each object is, in their order.
        """
        free = list(self.berths)
        taken = []
        for placed in objects:
            berth = next(b for b in free if b.slot == placed.slot)
            berth.place(self.model, self.data, placed)
            free.remove(berth)
            taken.append(berth)
        for berth in free:
            berth.park(self.model, self.data, self.berths.index(berth))
        return taken
