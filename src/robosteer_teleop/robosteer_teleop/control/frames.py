"""From WebXR's axes to the robot's: a fixed change of axes and one angle about the vertical.

WebXR local-floor: x right, y up, z back. Robot base (REP 103): x forward, y left, z up. Only the yaw of the operator is
measured; a tilt of the controller at that moment must not tip the vertical axis over, as it would if the whole
attitude were taken.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.control.rotations import exp, length, matrix_from_quaternion

XR_TO_ROS = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
XR_TO_ROS.setflags(write=False)
MAX_RAY_ELEVATION_RAD = math.radians(45.0)


@dataclasses.dataclass(frozen=True)
class Pose:
    """A rigid pose in one named frame.

    Attributes:
        position: (3,) m.
        rotation: (3, 3).
    """

    position: np.ndarray
    rotation: np.ndarray

    @classmethod
    def of_matrix(cls, matrix: np.ndarray) -> Pose:
        """Take a homogeneous (4, 4) pose apart."""
        return cls(matrix[:3, 3].copy(), matrix[:3, :3].copy())


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Where the operator stands: WebXR's local-floor in the robot's base, up to translation.

    Attributes:
        yaw: rad; turns the operator's forward direction onto the base's x axis.
    """

    yaw: float = 0.0

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3): base vector = matrix @ WebXR vector."""
        return exp(np.array([0.0, 0.0, self.yaw])) @ XR_TO_ROS

    def to_base(self, position: np.ndarray, quaternion: np.ndarray) -> Pose:
        """Express a controller pose in the base's axes.

        Args:
            position: (3,) m, WebXR.
            quaternion: (4,) x, y, z, w, WebXR.
        """
        turn = self.matrix
        return Pose(turn @ position, turn @ matrix_from_quaternion(quaternion) @ turn.T)


def align(quaternion: np.ndarray) -> Alignment:
    """Measure the yaw while the operator points along the robot's x axis.

    Args:
        quaternion: (4,) x, y, z, w attitude of the controller in WebXR; it points along its -z axis.

    Raises:
        RobosteerError: when it points too far up or down for its horizontal direction to mean anything.
    """
    ray = XR_TO_ROS @ matrix_from_quaternion(quaternion) @ np.array([0.0, 0.0, -1.0])
    elevation = math.atan2(float(ray[2]), length(ray[:2]))
    if abs(elevation) > MAX_RAY_ELEVATION_RAD:
        found, limit = math.degrees(elevation), math.degrees(MAX_RAY_ELEVATION_RAD)
        raise RobosteerError(
            f"alignment: found the controller {found:.0f} deg from horizontal, expected at most {limit:.0f} deg; "
            "point it along the robot's x axis"
        )
    return Alignment(-math.atan2(float(ray[1]), float(ray[0])))
