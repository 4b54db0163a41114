"""The cell in this process, one control step at a time, for pretraining and evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from robosteer_rig.environment import Failure, Scene
from robosteer_rig.errors import RobosteerError
from robosteer_rig.frame import Frame
from robosteer_rig.images import prepare
from robosteer_rig.rig import GRIPPER_STATE, JOINT_STATE, Rig
from robosteer_sim.cell_model import TIME_STEP_S
from robosteer_sim.experts import make_expert
from robosteer_sim.judge import Judge
from robosteer_sim.layout import DISTURBANCE_STREAM, lay_out, scene_random
from robosteer_sim.motion import Measurement
from robosteer_sim.panda import JOINT_NAMES
from robosteer_sim.physics import CellPhysics
from robosteer_sim.rendering import CellCameras
from robosteer_sim.tasks import task_card
from robosteer_sim.variations import conditions_of

DISTURBANCE_MEMORY = 0.8
"""Of a push from one step to the next: it lasts about a third of a second at 15 Hz."""


def check_rig(rig: Rig) -> None:
    """Refuse a rig that is not this cell's arm.

    Raises:
        RobosteerError: naming the joints.
    """
    if tuple(rig.arm.joints) != JOINT_NAMES:
        raise RobosteerError(
            f"rig: found arm.joints {list(rig.arm.joints)}, expected {list(JOINT_NAMES)} (simulated cell)"
        )


class CellEnvironment:
    """`robosteer_rig.environment.Environment` on the simulated cell.

    Renders only the cameras that the rig's policy uses, through the same crop and resize as the live path, so that a
    frame differs from the live one by the JPEG codec alone.

    Attributes:
        physics: the moving cell.
        judge: decides on success; its `failure` says what went wrong.
    """

    def __init__(self, rig: Rig, *, distractors: Sequence[str] | None = None) -> None:
        """Build the cell.

        Args:
            rig: the contract.
            distractors: objects to draw a scene's distractor from; None for any other colour, empty for none.

        Raises:
            RobosteerError: for a rig with other joints or cameras, or without OpenGL.
        """
        check_rig(rig)
        self._rig = rig
        self._distractors = distractors
        self._names = tuple(dict.fromkeys(rig.policy_cameras.values()))
        self.physics = CellPhysics()
        sizes = {name: (rig.cameras[name].width, rig.cameras[name].height) for name in self._names}
        self._cameras = CellCameras(self.physics, sizes)
        self._steps = 0
        self.judge = Judge(task_card("pick up red cube"))

    def reset(self, scene: Scene) -> Frame:
        """Set the scene up, arm in the ready pose.

        Raises:
            RobosteerError: for a scene that does not exist.
        """
        objects = lay_out(scene, self._distractors)
        self.judge = Judge(task_card(scene.task))
        self.physics.reset(objects, conditions=conditions_of(scene))
        self._steps = 0
        return self._frame()

    def step(self, joint_velocity: np.ndarray, gripper: float, *, look: bool = True) -> Frame:
        """Hold a command for one control period of the rig.

        Args:
            joint_velocity: (7,) rad/s.
            gripper: 0 open ... 1 closed.
            look: whether to draw the images.

        Raises:
            RobosteerError: for a command of another length or with values that are not finite.
        """
        command = np.asarray(joint_velocity, dtype=float)
        if command.shape != (len(JOINT_NAMES),) or not np.isfinite(command).all() or not np.isfinite(gripper):
            raise RobosteerError(
                f"command: found {command} and gripper {gripper}, expected 7 finite velocities and one number"
            )
        self._steps += 1
        end_s = self._steps / self._rig.action.rate_hz - TIME_STEP_S / 2
        while self.physics.time_s < end_s:
            self.physics.step(command, float(gripper))
            self.judge.observe(self.physics.look())
        return self._frame(look)

    @property
    def success(self) -> bool:
        """Whether the task has been done since the last reset."""
        return self.judge.success

    @property
    def failure(self) -> Failure | None:
        """Why the attempt would count as failed if it ended now; None once it has succeeded."""
        return self.judge.failure

    @property
    def time_limit_s(self) -> float:
        """The task card's."""
        return self.judge.card.time_limit_s

    def demonstrate(self, scene: Scene, *, disturbance: float = 0.0) -> Iterator[tuple[Frame, np.ndarray]]:
        """Reset, then let the scripted expert act until it is done or the task's time is over.

        Args:
            scene: the starting condition.
            disturbance: standard deviation in rad/s of a slowly changing push on every joint, which the expert has to
                correct. The yielded action is the expert's own, so that a policy learns to come back (DART, Laskey et
                al. 2017).

        Yields:
            Frame at t_k and the expert's action (8,) for [t_k, t_k+1): joint velocities in rad/s and the gripper.
        """
        frame = self.reset(scene)
        expert = make_expert(scene)
        random = scene_random(scene, DISTURBANCE_STREAM)
        push = np.zeros(len(JOINT_NAMES))
        while not expert.done and self.physics.time_s < self.judge.card.time_limit_s:
            poses, time_s = self.physics.object_poses(), self.physics.time_s
            velocity, gripper = expert.act(Measurement(frame.joint_position, frame.gripper_position, poses, time_s))
            yield frame, np.append(velocity, gripper)
            if disturbance:
                push = DISTURBANCE_MEMORY * push + np.sqrt(1 - DISTURBANCE_MEMORY**2) * random.normal(
                    0, disturbance, len(push)
                )
            frame = self.step(velocity + push, gripper)

    def object_positions(self) -> dict[str, np.ndarray]:
        """Ground truth, object name -> (3,) m in the robot's base frame."""
        return {name: pose[:3] for name, pose in self.physics.object_poses().items()}

    def close(self) -> None:
        """Free the renderer."""
        self._cameras.close()

    def _frame(self, look: bool = True) -> Frame:
        names = self._names if look else ()
        images = {name: prepare(self._cameras.render(name), self._rig.cameras[name]) for name in names}
        return Frame(
            stamp_ns=round(self._steps * 1e9 / self._rig.action.rate_hz),
            images=images,
            joint_position=self.physics.joint_position,
            joint_velocity=self.physics.joint_velocity,
            gripper_position=self.physics.gripper_position,
            ages_ns=dict.fromkeys((*names, JOINT_STATE, GRIPPER_STATE), 0),
        )


def make(rig: Rig) -> CellEnvironment:
    """The entry point `cell` of `robosteer.environments`."""
    return CellEnvironment(rig)
