"""The cell in motion: one MuJoCo state, commanded by joint velocities and a gripper opening."""

# MuJoCo's compiled modules carry no type information.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robosteer_sim.cell_model import CUBES, TIME_STEP_S, Slot
from robosteer_sim.gl import mujoco
from robosteer_sim.gripper import SPEED_M_PER_S, normalised_from_slide, slide_from_normalised
from robosteer_sim.instant import Instant
from robosteer_sim.layout import PlacedObject
from robosteer_sim.motion import Measurement
from robosteer_sim.objects import form_of
from robosteer_sim.panda import READY_POSITION
from robosteer_sim.stage import Berth, Stage
from robosteer_sim.variations import ORDINARY, Conditions

MAX_LEAD_RAD = 0.15
"""How far the servo's integrated position may run ahead of the measured one: a blocked arm must not store up a jump."""
MAX_STAGES = 12
"""Compiled cells that are kept for later scenes."""


def slots_for(objects: Sequence[PlacedObject]) -> tuple[Slot, ...]:
    """The room that objects need.

    Two ordinary cubes or fewer always get the same room, and so do the same distractors in any order.
    """
    needed = tuple(placed.slot for placed in objects)
    return CUBES if needed == CUBES[: len(needed)] else needed[:2] + tuple(sorted(needed[2:]))


class CellPhysics:
    """Arm, gripper and objects; deterministic: the same reset and commands give the same motion, bit for bit.

    Attributes:
        model: the compiled cell; another one after a reset to objects of other kinds.
        data: MuJoCo's state of it.
    """

    def __init__(self, samples: int = 0) -> None:
        """Build the cell, empty.

        Args:
            samples: of anti-aliasing in its pictures.
        """
        self._samples = samples
        self._stages: dict[tuple[Slot, ...], Stage] = {}
        self._gripper_target_m = 0.0
        self.reset(())

    def reset(
        self,
        objects: Sequence[PlacedObject],
        joint_position: np.ndarray = READY_POSITION,
        conditions: Conditions = ORDINARY,
    ) -> None:
        """Objects on the table, arm at rest, gripper open, time zero.

        Args:
            objects: what lies on the table; kinds that were not seen before take a few milliseconds.
            joint_position: (7,) rad.
            conditions: light, table and cameras.
        """
        stage = self._stage = self._stage_for(slots_for(objects))
        self.model, self.data = stage.model, stage.data
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[stage.arm_qpos] = joint_position
        self.data.act[:] = joint_position
        self._gripper_target_m = 0.0
        self._berths: dict[str, Berth] = dict(zip([o.name for o in objects], stage.set_up(objects), strict=True))
        self._know(objects)
        stage.dressing.apply(conditions)
        mujoco.mj_forward(self.model, self.data)

    def _stage_for(self, slots: tuple[Slot, ...]) -> Stage:
        if slots not in self._stages:
            while len(self._stages) >= MAX_STAGES:
                del self._stages[next(iter(self._stages))]
            self._stages[slots] = Stage(slots, self._samples)
        return self._stages[slots]

    def _know(self, objects: Sequence[PlacedObject]) -> None:
        """Prepare what `look` needs."""
        berths = list(self._berths.values())
        kinds = [form_of(placed.name, placed.form) for placed in objects]
        self._bodies = np.array([berth.body for berth in berths], dtype=int)
        self._rest = np.array([kind.rest(form.size) for kind, form in kinds])
        self._half_lengths = np.array([kind.half_length(form.size) for kind, form in kinds])
        # Which object a geom belongs to: -1 none, -2 and -3 the pads.
        self._owner = np.full(self.model.ngeom, -1)
        self._owner[self._stage.pads] = [-2, -3]
        for number, berth in enumerate(berths):
            self._owner[berth.geoms] = number

    def step(self, joint_velocity: np.ndarray, gripper: float) -> None:
        """Advance by one time step of 4 ms.

        Args:
            joint_velocity: (7,) commanded, rad/s.
            gripper: commanded, 0 open ... 1 closed; the pads move no faster than the real gripper's.
        """
        stage, data = self._stage, self.data
        stage.use_servos(True)
        position = data.qpos[stage.arm_qpos]
        np.clip(data.act, position - MAX_LEAD_RAD, position + MAX_LEAD_RAD, out=data.act)
        data.ctrl[stage.servos] = joint_velocity
        self._advance(gripper)

    def step_torque(self, torque: np.ndarray, gripper: float) -> None:
        """Advance by one time step under joint torques instead of velocity servos; gravity is compensated.

        Args:
            torque: (7,) N m.
            gripper: as in `step`.
        """
        stage, data = self._stage, self.data
        stage.use_servos(False)
        # Their positions follow the arm meanwhile.
        data.act[:] = data.qpos[stage.arm_qpos]
        data.ctrl[stage.servos] = 0.0
        data.qfrc_applied[stage.arm_dof] = torque
        self._advance(gripper)

    def _advance(self, gripper: float) -> None:
        reach = SPEED_M_PER_S / 2 * TIME_STEP_S
        change = slide_from_normalised(gripper) - self._gripper_target_m
        self._gripper_target_m += min(max(change, -reach), reach)
        self.data.ctrl[self._stage.gripper] = self._gripper_target_m
        mujoco.mj_step(self.model, self.data)

    @property
    def time_s(self) -> float:
        """Simulated time since the reset."""
        return float(self.data.time)

    @property
    def joint_position(self) -> np.ndarray:
        """(7,) rad."""
        return self.data.qpos[self._stage.arm_qpos].copy()

    @property
    def joint_velocity(self) -> np.ndarray:
        """(7,) rad/s."""
        return self.data.qvel[self._stage.arm_dof].copy()

    @property
    def joint_effort(self) -> np.ndarray:
        """(7,) N m, by the servos or as applied."""
        return self.data.actuator_force[self._stage.servos] + self.data.qfrc_applied[self._stage.arm_dof]

    @property
    def gripper_position(self) -> float:
        """0 open ... 1 closed."""
        return normalised_from_slide(sum(float(self.data.qpos[i]) for i in self._stage.fingers) / 2)

    @property
    def object_names(self) -> tuple[str, ...]:
        """The objects on the table, the target first."""
        return tuple(self._berths)

    def measurement(self) -> Measurement:
        """What an expert is told of this moment."""
        return Measurement(self.joint_position, self.gripper_position, self.object_poses(), self.time_s)

    def object_poses(self) -> dict[str, np.ndarray]:
        """Object name -> (7,): x, y, z in m and the quaternion w, x, y, z, in the robot's base frame."""
        data = self.data
        return {
            name: np.concatenate([data.xpos[berth.body], data.xquat[berth.body]])
            if berth.qpos is None
            else data.qpos[berth.qpos].copy()
            for name, berth in self._berths.items()
        }

    def look(self) -> Instant:
        """What a judge sees now."""
        data = self.data
        pairs = self._owner[data.contact.geom]
        pairs = pairs[(pairs[:, 0] != pairs[:, 1]) & (pairs >= 0).any(axis=1) & (pairs != -1).all(axis=1)]
        return Instant(
            time_s=float(data.time),
            tip=data.site_xpos[self._stage.tip].copy(),
            names=self.object_names,
            positions=data.xpos[self._bodies],
            quaternions=data.xquat[self._bodies],
            heights=data.xpos[self._bodies, 2] - self._rest,
            half_lengths=self._half_lengths,
            contacts=frozenset((int(max(a, b)), int(min(a, b))) for a, b in pairs),
        )
