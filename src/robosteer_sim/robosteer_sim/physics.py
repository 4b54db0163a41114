"""The cell in motion: one MuJoCo state, commanded by joint velocities and a gripper opening."""

# MuJoCo's compiled modules carry no type information.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robosteer_sim.cell_model import COLOURS, CUBE_EDGE_M, CUBE_SLOTS, TIME_STEP_S, build_model
from robosteer_sim.gl import mujoco
from robosteer_sim.gripper import (
    ACTUATOR,
    PADS,
    SPEED_M_PER_S,
    normalised_from_slide,
    slide_from_normalised,
)
from robosteer_sim.layout import PlacedObject
from robosteer_sim.panda import JOINT_NAMES, READY_POSITION

MAX_LEAD_RAD = 0.15
"""How far the servo's integrated position may run ahead of the measured one: a blocked arm must not store up a jump."""
_PARKED_Z_M = -5.0


class _Slot:
    """Addresses of one object's body in MuJoCo's arrays."""

    def __init__(self, model: mujoco.MjModel, name: str) -> None:
        self.body, self.geom = model.body(name).id, model.geom(name).id
        start = model.joint(name).qposadr[0]
        self.qpos = slice(start, start + 7)


class CellPhysics:
    """Arm, gripper and objects; deterministic: the same reset and commands give the same motion, bit for bit.

    Attributes:
        model: the compiled cell; only the objects' colours change after construction.
        data: MuJoCo's state.
    """

    def __init__(self, samples: int = 0) -> None:
        """Build the cell, empty.

        Args:
            samples: of anti-aliasing in its pictures.
        """
        self.model = build_model(samples)
        self.data = mujoco.MjData(self.model)
        self._joint_qpos = np.array([self.model.joint(n).qposadr[0] for n in JOINT_NAMES])
        self._joint_dof = np.array([self.model.joint(n).dofadr[0] for n in JOINT_NAMES])
        self._servo = np.array([self.model.actuator(n).id for n in JOINT_NAMES])
        self._gripper = self.model.actuator(ACTUATOR).id
        self._fingers = [self.model.joint(f"finger_{side}").qposadr[0] for side in ("left", "right")]
        self._pads = [self.model.geom(name).id for name in PADS]
        self._slots = {n: _Slot(self.model, n) for n in CUBE_SLOTS}
        self._objects: dict[str, _Slot] = {}
        self._gripper_target_m = 0.0
        self._servos_on = True
        gains, biases = self.model.actuator_gainprm, self.model.actuator_biasprm
        self._servo_gains = gains[self._servo].copy(), biases[self._servo].copy()
        self.reset(())

    def reset(self, objects: Sequence[PlacedObject], joint_position: np.ndarray = READY_POSITION) -> None:
        """Objects on the table, arm at rest, gripper open, time zero.

        Args:
            objects: at most as many as there are slots.
            joint_position: (7,) rad.
        """
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self._joint_qpos] = joint_position
        self.data.act[:] = joint_position
        self._gripper_target_m = 0.0
        self._objects = {}
        for number, slot in enumerate(self._slots.values()):
            present = number < len(objects)
            # A parked object floats out of sight and touches nothing, at no cost to the solver.
            self.model.body_gravcomp[slot.body] = 0.0 if present else 1.0
            if present:
                self._place(slot, objects[number])
            else:
                self.data.qpos[slot.qpos] = [float(number), 0.0, _PARKED_Z_M, 1.0, 0.0, 0.0, 0.0]
        mujoco.mj_forward(self.model, self.data)

    def _place(self, slot: _Slot, placed: PlacedObject) -> None:
        half = placed.yaw / 2
        self.data.qpos[slot.qpos] = [*placed.position, CUBE_EDGE_M / 2, np.cos(half), 0.0, 0.0, np.sin(half)]
        self.model.geom_rgba[slot.geom] = COLOURS[placed.name.split()[0]]
        self._objects[placed.name] = slot

    def step(self, joint_velocity: np.ndarray, gripper: float) -> None:
        """Advance by one time step of 4 ms.

        Args:
            joint_velocity: (7,) commanded, rad/s.
            gripper: commanded, 0 open ... 1 closed; the pads move no faster than the real gripper's.
        """
        self._use_servos(True)
        data = self.data
        position = data.qpos[self._joint_qpos]
        np.clip(data.act, position - MAX_LEAD_RAD, position + MAX_LEAD_RAD, out=data.act)
        data.ctrl[self._servo] = joint_velocity
        self._advance(gripper)

    def step_torque(self, torque: np.ndarray, gripper: float) -> None:
        """Advance by one time step under joint torques instead of velocity servos; gravity is compensated.

        Args:
            torque: (7,) N m.
            gripper: as in `step`.
        """
        self._use_servos(False)
        self.data.qfrc_applied[self._joint_dof] = torque
        self._advance(gripper)

    def _use_servos(self, on: bool) -> None:
        """Switch the velocity servos on or off; their positions follow the arm meanwhile."""
        if on is not self._servos_on:
            self._servos_on = on
            self.model.actuator_gainprm[self._servo], self.model.actuator_biasprm[self._servo] = (
                self._servo_gains if on else (0.0, 0.0)
            )
            self.data.qfrc_applied[self._joint_dof] = 0.0
        if not on:
            self.data.act[:] = self.data.qpos[self._joint_qpos]
            self.data.ctrl[self._servo] = 0.0

    def _advance(self, gripper: float) -> None:
        reach = SPEED_M_PER_S / 2 * TIME_STEP_S
        change = slide_from_normalised(gripper) - self._gripper_target_m
        self._gripper_target_m += min(max(change, -reach), reach)
        self.data.ctrl[self._gripper] = self._gripper_target_m
        mujoco.mj_step(self.model, self.data)

    @property
    def time_s(self) -> float:
        """Simulated time since the reset."""
        return float(self.data.time)

    @property
    def joint_position(self) -> np.ndarray:
        """(7,) rad."""
        return self.data.qpos[self._joint_qpos].copy()

    @property
    def joint_velocity(self) -> np.ndarray:
        """(7,) rad/s."""
        return self.data.qvel[self._joint_dof].copy()

    @property
    def joint_effort(self) -> np.ndarray:
        """(7,) N m, by the servos or as applied."""
        return self.data.actuator_force[self._servo] + self.data.qfrc_applied[self._joint_dof]

    @property
    def gripper_position(self) -> float:
        """0 open ... 1 closed."""
        return normalised_from_slide(sum(float(self.data.qpos[i]) for i in self._fingers) / 2)

    @property
    def object_names(self) -> tuple[str, ...]:
        """The objects on the table, the target first."""
        return tuple(self._objects)

    def object_poses(self) -> dict[str, np.ndarray]:
        """Object name -> (7,): x, y, z in m and the quaternion w, x, y, z, in the robot's base frame."""
        return {name: self.data.qpos[slot.qpos].copy() for name, slot in self._objects.items()}

    def held_object(self, height_m: float) -> str | None:
        """The object at least `height_m` above its place on the table with both pads in contact; None for none."""
        for name, slot in self._objects.items():
            if self.data.xpos[slot.body, 2] - CUBE_EDGE_M / 2 >= height_m and self._both_pads_touch(slot.geom):
                return name
        return None

    def _both_pads_touch(self, geom: int) -> bool:
        pairs = self.data.contact.geom
        touching = pairs[(pairs == geom).any(axis=1)]
        return all((touching == pad).any() for pad in self._pads)
