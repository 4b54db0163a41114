"""The cell in real time: when to step, what to apply, what is due. No ROS; the caller brings the clock."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from robosteer_rig.environment import Scene
from robosteer_sim.cell_model import TIME_STEP_S
from robosteer_sim.gripper import tool_in_flange
from robosteer_sim.impedance import CartesianImpedance, ImpedanceSettings, rotation_of_quaternion
from robosteer_sim.judge import Judge
from robosteer_sim.layout import lay_out
from robosteer_sim.panda import JOINT_NAMES, LINKS
from robosteer_sim.physics import CellPhysics
from robosteer_sim.tasks import task_card
from robosteer_sim.variations import conditions_of

STEP_NS = round(TIME_STEP_S * 1e9)
COMMAND_TIMEOUT_S = 0.05
"""Unless the rig says otherwise, a velocity command holds so long on the cell's time; then the arm ramps to rest."""
RAMP_RAD_PER_S2 = 10.0
MAX_CATCH_UP_NS = 100_000_000
"""After a longer stall the cell's time is not caught up: on a busy machine it runs in slow motion, not in bursts."""
STALLED_STEPS = 5
"""Steps taken instead."""


@dataclasses.dataclass
class Counters:
    """What went wrong since the start.

    Attributes:
        rejected_commands: of another length or not finite; the arm ramps to rest after one.
        command_timeouts: how often a moving arm was left without commands.
        stalls: how often the cell could not keep real time.
        stalled_s: by how much in all.
    """

    rejected_commands: int = 0
    command_timeouts: int = 0
    stalls: int = 0
    stalled_s: float = 0.0


class LiveCell:
    """Physics that follows a steady clock.

    Attributes:
        physics: the moving cell.
        judge: decides on success.
        counters: what went wrong.
        scene: the present starting condition.
        reset_count: how often the scene was set up.
    """

    def __init__(
        self,
        scene: Scene,
        distractors: Sequence[str] | None = None,
        *,
        command_timeout_s: float = COMMAND_TIMEOUT_S,
        impedance: ImpedanceSettings | None = None,
    ) -> None:
        """Set the first scene up; the cell's time starts with the first call of `steps_due`.

        Args:
            scene: the starting condition.
            distractors: as in `lay_out`.
            command_timeout_s: the rig's `action.command_timeout_s`.
            impedance: gains of a Cartesian impedance controller that drives the arm; None for velocity servos.
        """
        self._timeout_ns = round(command_timeout_s * 1e9)
        self.physics = CellPhysics()
        self._impedance = None
        if impedance is not None:
            torque_max = np.array([link.torque_max for link in LINKS])
            self._impedance = CartesianImpedance(impedance, tool_in_flange(), torque_max)
        self.counters = Counters()
        self.reset_count = 0
        self._distractors = distractors
        self._origin_ns: int | None = None
        self._steps = 0
        self._command = np.zeros(len(JOINT_NAMES))
        self._command_ns: int | None = None
        self._applied = np.zeros(len(JOINT_NAMES))
        self._gripper = 0.0
        self.reset(scene)

    def reset(self, scene: Scene) -> None:
        """Set a scene up: arm at rest in the ready pose; earlier commands are forgotten, time goes on.

        Raises:
            RobosteerError: for a scene that does not exist; nothing changes.
        """
        objects = lay_out(scene, self._distractors)
        self.scene = scene
        self.judge = Judge(task_card(scene.task))
        self.physics.reset(objects, conditions=conditions_of(scene))
        self._command_ns = None
        self._applied = np.zeros(len(JOINT_NAMES))
        self._gripper = 0.0
        if self._impedance is not None:
            self._impedance.activate(self.physics.joint_position)
        self.reset_count += 1

    def command(self, joint_velocity: Sequence[float]) -> None:
        """Take a velocity command, rad/s in the rig's joint order; a bad one counts as zero."""
        values = np.asarray(joint_velocity, dtype=float)
        if values.shape != self._command.shape or not np.isfinite(values).all():
            self.counters.rejected_commands += 1
            self._command_ns = None
            return
        self._command, self._command_ns = values, self.time_ns

    def aim(self, position: Sequence[float], quaternion: Sequence[float]) -> None:
        """Take a target pose of the tool for the impedance controller; one that is no pose is counted.

        Args:
            position: (3,) m, base frame.
            quaternion: (4,) x, y, z, w.
        """
        place, turn = np.asarray(position, dtype=float), np.asarray(quaternion, dtype=float)
        good = np.isfinite(place).all() and np.isfinite(turn).all() and abs(np.linalg.norm(turn) - 1.0) < 0.01
        if self._impedance is None or not good:
            self.counters.rejected_commands += 1
            return
        self._impedance.aim(place, rotation_of_quaternion(turn))

    def command_gripper(self, closed: float) -> None:
        """Take a gripper command, 0 open ... 1 closed; one that is not finite is ignored and counted."""
        if math.isfinite(closed):
            self._gripper = min(max(closed, 0.0), 1.0)
        else:
            self.counters.rejected_commands += 1

    @property
    def time_ns(self) -> int:
        """The cell's time since the start; resets do not touch it."""
        return self._steps * STEP_NS

    @property
    def steady_ns(self) -> int:
        """The moment on the steady clock that the present state stands for; never later than that clock's now."""
        return (self._origin_ns or 0) + self.time_ns

    def steps_due(self, now_ns: int) -> int:
        """How many steps bring the cell's time up to the clock; a stall is taken note of and skipped."""
        if self._origin_ns is None:
            self._origin_ns = now_ns
        behind = now_ns - self.steady_ns
        if behind > MAX_CATCH_UP_NS:
            skipped = behind - STALLED_STEPS * STEP_NS
            self.counters.stalls += 1
            self.counters.stalled_s += skipped / 1e9
            self._origin_ns += skipped
            behind -= skipped
        return max(0, behind // STEP_NS)

    def step(self) -> None:
        """Advance by one time step under the latest command, or towards rest without one."""
        physics = self.physics
        if self._impedance is None:
            physics.step(self._obey(), self._gripper)
        else:
            torque = self._impedance.torque(physics.joint_position, physics.joint_velocity, TIME_STEP_S)
            physics.step_torque(torque, self._gripper)
        self._steps += 1
        self.judge.observe(self.physics.look())

    def _obey(self) -> np.ndarray:
        """(7,) rad/s to apply for one step."""
        if self._command_ns is not None and self.time_ns - self._command_ns > self._timeout_ns:
            self._command_ns = None
            self.counters.command_timeouts += bool(self._applied.any())
        if self._command_ns is not None:
            self._applied = self._command
        else:
            reach = RAMP_RAD_PER_S2 * TIME_STEP_S
            self._applied = self._applied - np.clip(self._applied, -reach, reach)
        return self._applied


class Pulse:
    """Tells when a periodic event is due on the cell's time."""

    def __init__(self, rate_hz: float, phase: float = 0.0) -> None:
        """Start counting.

        Args:
            rate_hz: of the event.
            phase: of a period, 0 ... 1, by which the first event is late.
        """
        self._rate_hz, self._phase = rate_hz, phase
        self._count = 0

    def due(self, time_ns: int) -> bool:
        """Whether at least one event has become due since the last call; several missed ones count as one."""
        count = math.floor(time_ns * 1e-9 * self._rate_hz - self._phase + 1e-6) + 1
        if count <= self._count:
            return False
        self._count = count
        return True
