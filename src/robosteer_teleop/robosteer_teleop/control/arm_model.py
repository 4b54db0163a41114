"""The arm in pinocchio: the same chain as `robosteer_rig.kinematics`, several times faster at one configuration.

Built from that module's frames, so that there is one table of the arm's geometry; a test compares the two everywhere.
"""

# pinocchio's compiled modules carry no type information.
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

from __future__ import annotations

import numpy as np
import pinocchio as pin

from robosteer_rig.kinematics import NUM_JOINTS, joint_frames, manipulability
from robosteer_teleop.control.frames import Pose


class ArmModel:
    """Pose and Jacobian of the tool at one configuration at a time.

    Attributes:
        pose: of the tool in the base frame, after `update`.
        jacobian: (6, 7) in the base frame, rows linear then angular.
        manipulability: sqrt(det(J Jᵀ)).
    """

    def __init__(self, tool: np.ndarray) -> None:
        """Build the chain.

        Args:
            tool: (4, 4) pose of the tool in the flange frame.
        """
        frames = joint_frames(np.zeros(NUM_JOINTS), tool)
        self._model = pin.Model()
        parent, before = 0, np.eye(4)
        for i in range(NUM_JOINTS):
            placement = pin.SE3(np.linalg.solve(before, frames[i]))
            parent = self._model.addJoint(parent, pin.JointModelRZ(), placement, f"joint{i + 1}")
            before = frames[i]
        end = pin.SE3(np.linalg.solve(before, frames[NUM_JOINTS]))
        self._frame = self._model.addFrame(pin.Frame("tool", parent, end, pin.FrameType.OP_FRAME))
        self._data = self._model.createData()
        self.update(np.zeros(NUM_JOINTS))

    def update(self, q: np.ndarray) -> None:
        """Evaluate at q (7,) rad."""
        reference = pin.ReferenceFrame.LOCAL_WORLD_ALIGNED
        self.jacobian = pin.computeFrameJacobian(self._model, self._data, q, self._frame, reference)
        placement = self._data.oMf[self._frame]
        self.pose = Pose(placement.translation.copy(), placement.rotation.copy())
        self.manipulability = manipulability(self.jacobian)
