"""What the node `teleop` publishes."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.time import Time as RosTime
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Float64, Float64MultiArray, String

from robosteer_rig.parts import JOINT_STATE_TYPE
from robosteer_rig.rig import Rig
from robosteer_teleop.control.core import Target, TeleopCore
from robosteer_teleop.control.frames import Alignment, Pose
from robosteer_teleop.control.rotations import quaternion_from_matrix
from robosteer_teleop.late_frames import LateFrames
from robosteer_teleop.nodes.recorder_link import LATCHED
from robosteer_teleop.nodes.teleop_parameters import TeleopParameters
from robosteer_teleop.output import CARTESIAN
from robosteer_teleop.protocol import Buttons
from robosteer_teleop.server import LinkEvent, ReceivedFrame
from robosteer_teleop.teleop_record import SESSION_TOPIC, STATUS_TOPIC
from robosteer_teleop.topics import HAND_TOPIC, JOY_TOPIC, MEASURED_TOPIC, TARGET_TOPIC

HAND_FRAME = "xr_local_floor"
"""The hand's frame: WebXR's local-floor in the robot's axes, turned by the operator's yaw."""
FRAMES_KEPT = 200
"""More than a second of frames: after a stall they are published in one go, and none may be overwritten."""
_BUTTONS = (Buttons.TRIGGER, Buttons.SQUEEZE, Buttons.STICK, Buttons.A, Buttons.B)


class TeleopTopics:
    """Publishers and the messages they send."""

    def __init__(self, node: Node, rig: Rig, parameters: TeleopParameters) -> None:
        """Create the publishers.

        Args:
            node: publishes.
            rig: names the topics and frames.
            parameters: of the node.
        """
        self._node, self._rig = node, rig
        self._late = LateFrames()
        self._as_joint_state = str(rig.action.command_type) == JOINT_STATE_TYPE
        kind = JointState if self._as_joint_state else Float64MultiArray
        self._command = node.create_publisher(kind, rig.action.command_topic, 10)
        self._gripper = [node.create_publisher(Float64, rig.action.gripper_topic, 10)]
        self._hand = node.create_publisher(PoseStamped, HAND_TOPIC, FRAMES_KEPT)
        self._joy = node.create_publisher(Joy, JOY_TOPIC, FRAMES_KEPT)
        self._target = node.create_publisher(PoseStamped, TARGET_TOPIC, 10)
        self._measured = node.create_publisher(PoseStamped, MEASURED_TOPIC, 10)
        self._status = node.create_publisher(String, STATUS_TOPIC, 10)
        self._session = node.create_publisher(String, SESSION_TOPIC, LATCHED)
        self._pose_target = None
        if parameters.output == CARTESIAN:
            self._pose_target = node.create_publisher(PoseStamped, parameters.target_topic, QoSProfile(depth=1))
            # The guard passes nothing on in this mode: it guards joint commands.
            self._gripper.append(node.create_publisher(Float64, rig.gripper.command_topic, 10))

    def _stamp(self, age_s: float = 0.0) -> Time:
        nanoseconds = self._node.get_clock().now().nanoseconds - round(age_s * 1e9)
        return RosTime(nanoseconds=max(nanoseconds, 0)).to_msg()  # simulated time begins at 0

    def command(self, velocity: Sequence[float] | np.ndarray, gripper: float | None) -> None:
        """Joint velocities (7,) rad/s in the rig's order, and the gripper command, if any."""
        values = [float(v) for v in velocity]
        if self._as_joint_state:
            message = JointState(name=list(self._rig.arm.joints), velocity=values)
            message.header.stamp = self._stamp()
        else:
            message = Float64MultiArray(data=values)
        self._command.publish(message)
        for publisher in self._gripper if gripper is not None else ():
            publisher.publish(Float64(data=gripper))

    def target_pose(self, pose: Pose) -> None:
        """The impedance controller's target."""
        if self._pose_target is not None:
            self._pose_target.publish(self._pose(pose, self._rig.frames.base))

    def poses(self, target: Target, measured: Pose | None) -> None:
        """Target and measured pose, for the bag."""
        if target.motion is not None:
            self._target.publish(self._pose(target.motion.pose, self._rig.frames.base))
        if measured is not None:
            self._measured.publish(self._pose(measured, self._rig.frames.base))

    def hand(self, received: ReceivedFrame, core: TeleopCore) -> None:
        """The controller's pose and buttons; the stamp is the frame's time of arrival on this host's clock."""
        frame, age_s = received.frame, time.monotonic() - received.received_s
        if frame.tracked:
            alignment = core.alignment or Alignment()
            pose = alignment.to_base(np.array(frame.position), np.array(frame.orientation))
            self._hand.publish(self._pose(pose, HAND_FRAME, age_s))
        joy = Joy(
            axes=[frame.trigger, frame.squeeze, *frame.stick], buttons=[int(b in frame.buttons) for b in _BUTTONS]
        )
        joy.header.stamp, joy.header.frame_id = self._stamp(age_s), str(frame.seq)
        self._joy.publish(joy)

    def event(self, event: LinkEvent) -> None:
        """An event of the link, on the console; of late frames the first and, by `every_second`, the last only."""
        logger = self._node.get_logger()
        if (line := self._late.hear(event)) is not None:
            if line:
                logger.warning(line)
            return
        text = f"{event.kind} {json.dumps(event.detail, default=str)}"
        if event.fault:
            logger.warning(text)
        else:
            logger.debug(text)

    def every_second(self, now_s: float) -> None:
        """Say that frames come in time again, once they do."""
        if line := self._late.poll(now_s):
            self._node.get_logger().info(line)

    def status(self, status: dict[str, Any]) -> None:
        """The core's state."""
        self._status.publish(String(data=json.dumps(status)))

    def session(self, session: dict[str, Any]) -> None:
        """What holds for the session."""
        self._session.publish(String(data=json.dumps(session)))

    def _pose(self, pose: Pose, frame_id: str, age_s: float = 0.0) -> PoseStamped:
        message = PoseStamped()
        message.header.stamp, message.header.frame_id = self._stamp(age_s), frame_id
        point, turn = message.pose.position, message.pose.orientation
        point.x, point.y, point.z = (float(v) for v in pose.position)
        turn.x, turn.y, turn.z, turn.w = (float(v) for v in quaternion_from_matrix(pose.rotation))
        return message
