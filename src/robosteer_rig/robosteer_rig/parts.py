"""The parts of a rig file: arm, gripper, cameras, action convention and frames, each validated on construction."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

import numpy as np

from robosteer_rig.fields import require

NUM_JOINTS = 7
JOINT_STATE_TYPE = "sensor_msgs/msg/JointState"
FLOAT64_TYPE = "std_msgs/msg/Float64"
MULTI_ARRAY_TYPE = "std_msgs/msg/Float64MultiArray"
COMPRESSED_IMAGE_TYPE = "sensor_msgs/msg/CompressedImage"
IMAGE_TYPE = "sensor_msgs/msg/Image"
ENCODINGS = {COMPRESSED_IMAGE_TYPE: ("jpeg", "png"), IMAGE_TYPE: ("rgb8", "bgr8", "rgba8", "bgra8")}

Joints = tuple[float, ...]
_TOPIC = re.compile(r"/[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")


def _topic(path: str, value: str) -> None:
    require(_TOPIC.fullmatch(value) is not None, path, value, "an absolute topic such as /joint_states")


def _positive(path: str, value: float) -> None:
    require(value > 0, path, value, "a number above 0")


@dataclasses.dataclass(frozen=True)
class VelocityEnvelope:
    """A joint velocity limit that falls towards the position limits, as FR3 has it.

    upper(q) = max(0, -offset + sqrt(max(0, gain (upper_zero - q)))), lower(q) mirrored with `lower_zero`; each is
    further bounded by the arm's velocity_max.

    Attributes:
        offset: (7,) rad/s.
        gain: (7,) rad/s^2.
        lower_zero: (7,) rad.
        upper_zero: (7,) rad.
    """

    offset: Joints
    gain: Joints
    lower_zero: Joints
    upper_zero: Joints

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            require(len(value) == NUM_JOINTS, field.name, value, f"{NUM_JOINTS} numbers")


@dataclasses.dataclass(frozen=True)
class Arm:
    """The seven joints, their limits and their topics.

    Attributes:
        joints: names in the order of every vector; messages are matched by name.
        position_min: (7,) rad.
        position_max: (7,) rad.
        velocity_max: (7,) rad/s.
        acceleration_max: (7,) rad/s^2.
        jerk_max: (7,) rad/s^3.
        state_topic: sensor_msgs/JointState with the measured positions and velocities.
        command_topic: std_msgs/Float64MultiArray of joint velocities in rad/s; only the guard publishes it.
        state_rate_hz: nominal rate of the state topic.
        max_age_s: a frame whose joint state is older is marked stale.
        velocity_envelope: position-dependent velocity limits, where the robot has them.
    """

    joints: tuple[str, ...]
    position_min: Joints
    position_max: Joints
    velocity_max: Joints
    acceleration_max: Joints
    jerk_max: Joints
    state_topic: str
    command_topic: str
    state_rate_hz: float = 100.0
    max_age_s: float = 0.05
    velocity_envelope: VelocityEnvelope | None = None

    def __post_init__(self) -> None:
        require(len(self.joints) == NUM_JOINTS, "joints", self.joints, f"{NUM_JOINTS} names")
        require(len(set(self.joints)) == NUM_JOINTS, "joints", self.joints, "every name once")
        for name in ("position_min", "position_max", "velocity_max", "acceleration_max", "jerk_max"):
            value = getattr(self, name)
            require(len(value) == NUM_JOINTS, name, value, f"{NUM_JOINTS} numbers, one per joint")
            if not name.startswith("position"):
                require(min(value) > 0, name, value, "numbers above 0")
        for i, (low, high) in enumerate(zip(self.position_min, self.position_max, strict=True)):
            require(low < high, f"position_min[{i}]", low, f"less than position_max[{i}]={high}")
        _topic("state_topic", self.state_topic)
        _topic("command_topic", self.command_topic)
        _positive("state_rate_hz", self.state_rate_hz)
        _positive("max_age_s", self.max_age_s)


@dataclasses.dataclass(frozen=True)
class Gripper:
    """One gripper; everything outside the driver speaks 0 open ... 1 closed.

    Attributes:
        state_topic: sensor_msgs/JointState.
        state_joint: the joint of that message that tells the opening.
        open_position: its position when fully open (rad or m, the driver's unit).
        closed_position: its position when fully closed, same unit; may be smaller than `open_position`.
        command_topic: std_msgs/Float64, 0 open ... 1 closed; only the guard publishes it.
        state_rate_hz: nominal rate of the state topic.
        max_age_s: a frame whose gripper state is older is marked stale.
    """

    state_topic: str
    state_joint: str
    open_position: float
    closed_position: float
    command_topic: str
    state_rate_hz: float = 30.0
    max_age_s: float = 0.2

    def __post_init__(self) -> None:
        _topic("state_topic", self.state_topic)
        _topic("command_topic", self.command_topic)
        distinct = abs(self.open_position - self.closed_position) > 1e-6
        require(distinct, "closed_position", self.closed_position, f"different from open_position={self.open_position}")
        _positive("state_rate_hz", self.state_rate_hz)
        _positive("max_age_s", self.max_age_s)

    def normalise(self, position: float) -> float:
        """Driver position -> 0 open ... 1 closed, clipped."""
        share = (position - self.open_position) / (self.closed_position - self.open_position)
        return float(np.clip(share, 0.0, 1.0))

    def denormalise(self, closed: float) -> float:
        """0 open ... 1 closed -> driver position."""
        return self.open_position + float(np.clip(closed, 0.0, 1.0)) * (self.closed_position - self.open_position)


@dataclasses.dataclass(frozen=True)
class Crop:
    """A square region of the camera image.

    Attributes:
        x0: left column, px.
        y0: top row, px.
        size: side, px.
    """

    x0: int
    y0: int
    size: int


@dataclasses.dataclass(frozen=True)
class Camera:
    """One camera and the square view of it that the policy gets.

    Attributes:
        topic: where the image comes from.
        type: sensor_msgs/msg/CompressedImage or sensor_msgs/msg/Image.
        encoding: jpeg or png; for raw images rgb8, bgr8, rgba8 or bgra8.
        rate_hz: nominal rate.
        width: of the message's image, px.
        height: of the message's image, px.
        crop: the square that is kept.
        output_size: side of the square after resizing, px.
        max_age_s: a frame whose image is older is marked stale.
    """

    topic: str
    type: Literal["sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image"]
    encoding: str
    rate_hz: float
    width: int
    height: int
    crop: Crop
    output_size: int
    max_age_s: float = 0.2

    def __post_init__(self) -> None:
        _topic("topic", self.topic)
        known = ENCODINGS[self.type]
        require(self.encoding in known, "encoding", self.encoding, f"one of {', '.join(known)} for {self.type}")
        _positive("rate_hz", self.rate_hz)
        _positive("max_age_s", self.max_age_s)
        for name in ("width", "height"):
            value = getattr(self, name)
            require(1 <= value <= 8192, name, value, "1 ... 8192 px")
        require(8 <= self.output_size <= 1024, "output_size", self.output_size, "8 ... 1024 px")
        crop = self.crop
        inside = crop.x0 >= 0 and crop.y0 >= 0 and crop.size >= 8
        inside = inside and crop.x0 + crop.size <= self.width and crop.y0 + crop.size <= self.height
        shown = f"x0={crop.x0} y0={crop.y0} size={crop.size}"
        require(inside, "crop", shown, f"a square of at least 8 px inside {self.width}x{self.height}")


@dataclasses.dataclass(frozen=True)
class Action:
    """What an action means and where the recorded ones come from.

    Attributes:
        convention: normalised_joint_velocity: u = joint velocity / unit_rad_per_s, with the gripper 0 open ... 1
            closed as eighth entry (DROID).
        unit_rad_per_s: joint velocity of u = 1, rad/s.
        rate_hz: control and sampling rate.
        command_topic: joint velocities sent by the operator, rad/s, named by joint (JointState) or in the rig's
            joint order (Float64MultiArray).
        command_type: sensor_msgs/msg/JointState or std_msgs/msg/Float64MultiArray.
        gripper_topic: std_msgs/Float64 sent by the operator, 0 open ... 1 closed.
        command_timeout_s: a velocity command holds no longer than this; after it the robot is at rest.
    """

    convention: Literal["normalised_joint_velocity"]
    unit_rad_per_s: float
    rate_hz: float
    command_topic: str
    gripper_topic: str
    command_type: Literal["sensor_msgs/msg/JointState", "std_msgs/msg/Float64MultiArray"] = JOINT_STATE_TYPE
    command_timeout_s: float = 0.05

    def __post_init__(self) -> None:
        _positive("unit_rad_per_s", self.unit_rad_per_s)
        require(0 < self.rate_hz <= 1000, "rate_hz", self.rate_hz, "a number in (0, 1000]")
        _topic("command_topic", self.command_topic)
        _topic("gripper_topic", self.gripper_topic)
        _positive("command_timeout_s", self.command_timeout_s)


@dataclasses.dataclass(frozen=True)
class Workspace:
    """Where the arm may go, in the base frame; a guard keeps it there by forward kinematics.

    Attributes:
        low: (3,) least x, y, z of the tcp, m.
        high: (3,) greatest x, y, z of the tcp, m.
        table_z: height below which neither the tcp nor the joints from the elbow on may go, m; None for no table.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    table_z: float | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            require(len(getattr(self, name)) == 3, name, getattr(self, name), "3 numbers: x, y, z in m")
        for low, high in zip(self.low, self.high, strict=True):
            require(low < high, "low", self.low, f"less than high={self.high}")


@dataclasses.dataclass(frozen=True)
class Frames:
    """Names of coordinate frames and the tool.

    Attributes:
        base: the arm's base frame.
        flange: the arm's last frame.
        tcp: the point between the fingertips.
        tcp_offset_m: (3,) position of the tcp in the flange frame, m.
        tcp_yaw_rad: rotation of the tool about the flange's z axis, rad.
    """

    base: str
    flange: str
    tcp: str
    tcp_offset_m: tuple[float, ...] = (0.0, 0.0, 0.0)
    tcp_yaw_rad: float = 0.0

    def __post_init__(self) -> None:
        require(len(self.tcp_offset_m) == 3, "tcp_offset_m", self.tcp_offset_m, "3 numbers: x, y, z in m")
