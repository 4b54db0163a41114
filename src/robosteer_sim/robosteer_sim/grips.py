"""Where to take hold of an object, and how to turn the tool for it."""

from __future__ import annotations

import math

import numpy as np

from robosteer_sim.objects import form_of, kind_of

RIM_WALL_M = 0.005


def yaw_of(pose: np.ndarray) -> float:
    """Yaw (rad) of a pose (7,): position, quaternion w, x, y, z."""
    w, x, y, z = pose[3:]
    return math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def long_axis(pose: np.ndarray) -> np.ndarray:
    """(3,): the x axis of a pose (7,)."""
    w, x, y, z = pose[3:]
    return np.array([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)])


def nearest_turn(yaw: float, wanted: float, period: float) -> float:
    """The angle that equals `wanted` up to multiples of `period` and is nearest to `yaw`, rad."""
    return yaw + (wanted - yaw + period / 2) % period - period / 2


def grasp_yaw(pose: np.ndarray, tool: np.ndarray) -> float:
    """The tool yaw (rad) that squares the pads with a cube and is nearest to the present one.

    Args:
        pose: (7,) of the cube: position m, quaternion w, x, y, z.
        tool: (4, 4) present tool pose.
    """
    return nearest_turn(tool_yaw(tool), yaw_of(pose), math.pi / 2)


def tool_yaw(tool: np.ndarray) -> float:
    """Yaw (rad) of the tool's x axis."""
    return math.atan2(tool[1, 0], tool[0, 0])


class Grip:
    """Take a cube or a block by its middle.

    Attributes:
        empty: a gripper closed further than this holds nothing.
    """

    empty = 0.9
    _above_centre_m = 0.004

    def choose(self, pose: np.ndarray, tool: np.ndarray) -> float:
        """Decide at the beginning of an attempt.

        Args:
            pose: (7,) of the object.
            tool: (4, 4) present tool pose.

        Returns:
            The tool's yaw, rad.
        """
        return grasp_yaw(pose, tool)

    def point(self, pose: np.ndarray) -> np.ndarray:
        """(3,) m: where the point between the pads belongs."""
        return pose[:3] + np.array([0.0, 0.0, self._above_centre_m])


class MarkerGrip(Grip):
    """Take a marker across, behind its middle, so that its longer end comes down when the hand tilts sideways.

    Sideways, because there the wrist has room over the whole table: tilted outwards it meets joint 6's limit, tilted
    inwards the arm is too short.

    Attributes:
        heading: where the fingers point when the hand is tilted, rad about the base's z axis.
        offset_m: from the marker's centre to the grip.
        low_m: from the grip to the longer end.
    """

    _tip_height_m = 0.021  # the pads just clear the table

    def __init__(self, size: tuple[float, ...], goal: tuple[float, float]) -> None:
        """Prepare.

        Args:
            size: length and diameter, m.
            goal: x, y of the mug, m.
        """
        length, diameter = size
        outward = math.atan2(goal[1], goal[0])
        # To the left: joint 7 turns much farther to that side.
        self.heading = outward + math.pi / 2
        self._wanted = self.heading - 0.4
        self.offset_m = 0.22 * length
        self.low_m = self.offset_m + length / 2
        self._up = self._tip_height_m - diameter / 2
        self._sign = 1.0

    def choose(self, pose: np.ndarray, tool: np.ndarray) -> float:
        """The tool's x axis, from which the longer end will hang, comes near the heading."""
        yaw = nearest_turn(self._wanted, yaw_of(pose), math.pi)
        self._sign = 1.0 if math.cos(yaw - yaw_of(pose)) > 0 else -1.0
        return nearest_turn(tool_yaw(tool), yaw, 2 * math.pi)

    def point(self, pose: np.ndarray) -> np.ndarray:
        """(3,) m."""
        return pose[:3] + self._sign * self.offset_m * long_axis(pose) + np.array([0.0, 0.0, self._up])

    def low_end(self, pose: np.ndarray) -> np.ndarray:
        """(3,) m: the longer end."""
        return pose[:3] - self._sign * (self.low_m - self.offset_m) * long_axis(pose)


class RimGrip(Grip):
    """Take a mug by its wall, away from the handle."""

    empty = 0.98
    _below_rim_m = 0.014
    _away_from_handle_rad = math.radians(50)

    def __init__(self, radius: float, height: float) -> None:
        """For a mug of that inner radius and height, m."""
        self._radius = radius + RIM_WALL_M / 2
        self._height = height - self._below_rim_m
        self._angle = math.pi

    def choose(self, pose: np.ndarray, tool: np.ndarray) -> float:
        """The wall for which the tool turns least."""
        present, handle = tool_yaw(tool), yaw_of(pose)
        choices = []
        for number in range(12):
            angle = number * math.pi / 6
            if abs(nearest_turn(0.0, angle, 2 * math.pi)) < self._away_from_handle_rad:
                continue
            # The pads move along the tool's y axis, a quarter turn from its x axis.
            yaw = nearest_turn(present, handle + angle + math.pi / 2, math.pi)
            choices.append((abs(yaw - present), angle, yaw))
        _, self._angle, yaw = min(choices)
        return yaw

    def point(self, pose: np.ndarray) -> np.ndarray:
        """(3,) m."""
        angle = yaw_of(pose) + self._angle
        return pose[:3] + np.array([self._radius * math.cos(angle), self._radius * math.sin(angle), self._height])


def grip_for(name: str, form: int, goal: tuple[float, float] | None = None) -> Grip:
    """How to take hold of an object.

    Args:
        name: the object's.
        form: number of its form.
        goal: x, y in m of where it is to be brought, if anywhere.
    """
    size = form_of(name, form)[1].size
    match kind_of(name):
        case "marker":
            return MarkerGrip(size, goal or (0.5, 0.0))
        case "mug":
            return RimGrip(size[0], size[1])
        case _:
            return Grip()
