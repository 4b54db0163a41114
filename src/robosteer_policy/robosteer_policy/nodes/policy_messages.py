"""What the policy node says, as messages."""

from __future__ import annotations

import array

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point
from rclpy.time import Time
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import ColorRGBA
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from visualization_msgs.msg import Marker, MarkerArray

from robosteer_policy.chunks import Chunk
from robosteer_rig.kinematics import forward_kinematics, tool_transform
from robosteer_rig.rig import Rig

BLUE, GREY = ColorRGBA(r=0.1, g=0.4, b=1.0, a=0.9), ColorRGBA(r=0.6, g=0.6, b=0.6, a=0.7)


def doubles(values: np.ndarray) -> array.array[float]:
    """Numbers as a message wants them."""
    return array.array("d", np.ascontiguousarray(values, dtype=np.float64).tobytes())


def command(rig: Rig, velocity: np.ndarray, stamp: Time, number: int) -> JointState:
    """A command for the guard; `number` counts actions, so that repeats can be told from them."""
    message = JointState(name=list(rig.arm.joints), velocity=doubles(velocity))
    message.header.stamp, message.header.frame_id = stamp.to_msg(), str(number)
    return message


def trajectory(rig: Rig, chunk: Chunk) -> JointTrajectory:
    """A chunk: velocities at k T after the observation's stamp."""
    points = []
    for k, velocity in enumerate(chunk.velocity):
        seconds, rest = divmod(k * chunk.period_ns, 1_000_000_000)
        start = Duration(sec=seconds, nanosec=rest)
        points.append(JointTrajectoryPoint(velocities=doubles(velocity), time_from_start=start))
    message = JointTrajectory(joint_names=list(rig.arm.joints), points=points)
    message.header.stamp = Time(nanoseconds=chunk.stamp_ns).to_msg()
    message.header.frame_id = rig.frames.base
    return message


def tool_path(rig: Rig, chunk: Chunk, position: np.ndarray) -> np.ndarray:
    """Where the tool would go if the chunk were followed exactly, (H + 1, 3) m in the base frame.

    Args:
        rig: names the tool.
        chunk: the actions.
        position: (7,) rad at the chunk's observation.
    """
    steps = np.cumsum(chunk.velocity * chunk.period_ns * 1e-9, axis=0)
    joints = position + np.concatenate([np.zeros((1, len(position))), steps])
    return forward_kinematics(joints, tool_transform(rig.frames))[:, :3, 3]


def path_markers(rig: Rig, chunk: Chunk, shadow: Chunk | None, position: np.ndarray) -> MarkerArray:
    """The predicted path as a blue line, that of the shadow policy as a grey one."""
    markers = []
    for number, (one, colour) in enumerate(((chunk, BLUE), (shadow, GREY))):
        marker = Marker(ns="predicted path", id=number, type=Marker.LINE_STRIP, color=colour)
        marker.header.frame_id = rig.frames.base
        marker.header.stamp = Time(nanoseconds=chunk.stamp_ns).to_msg()
        marker.action = Marker.DELETE if one is None else Marker.ADD
        marker.pose.orientation.w, marker.scale.x = 1.0, 0.005
        if one is not None:
            marker.points = [Point(x=x, y=y, z=z) for x, y, z in tool_path(rig, one, position).tolist()]
        markers.append(marker)
    return MarkerArray(markers=markers)


def picture(image: np.ndarray, stamp_ns: int, frame_id: str) -> Image:
    """An RGB image (h, w, 3) uint8."""
    height, width, _ = image.shape
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    message.header.stamp, message.header.frame_id = Time(nanoseconds=stamp_ns).to_msg(), frame_id
    message.data = array.array("B", np.ascontiguousarray(image).tobytes())
    return message
