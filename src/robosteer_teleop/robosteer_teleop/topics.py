"""What an episode records: the topics of the rig, their message definitions and what is expected of each stream."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import TYPE_CHECKING

from rosbags.interfaces import Qos
from rosbags.typesys import Stores, get_typestore

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.teleop_record import SESSION_TOPIC, STATUS_TOPIC

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

    from robosteer_rig.rig import Rig

JOINT_STATE = "sensor_msgs/msg/JointState"
FLOAT64 = "std_msgs/msg/Float64"
STRING = "std_msgs/msg/String"
STATE_MAX_GAP_S = 0.05  # of the arm's state: the policy's grid is 1/15 s, so a longer gap can hide a whole step
HAND_TOPIC = "/robosteer/teleop/hand"
JOY_TOPIC = "/robosteer/teleop/joy"
TARGET_TOPIC = "/robosteer/teleop/target"
MEASURED_TOPIC = "/robosteer/teleop/measured"
_HEADER = "std_msgs/msg/Header"


@dataclasses.dataclass(frozen=True)
class RecordedTopic:
    """One topic of an episode.

    Attributes:
        name: with leading slash.
        type: for example "sensor_msgs/msg/JointState".
        needed: recording is refused while this topic is silent.
        rate_hz: the rate that the rig promises; None when it promises none.
        max_gap_s: a longer time between two stamps marks the episode; None for topics that may pause.
        latched: the last message from before the start is written again at the start.
        action: the operator's commands; an episode without any is marked.
    """

    name: str
    type: str
    needed: bool = False
    rate_hz: float | None = None
    max_gap_s: float | None = None
    latched: bool = False
    action: bool = False


@dataclasses.dataclass(frozen=True)
class Definition:
    """A message definition as a bag embeds it.

    Attributes:
        text: the .msg text with all nested types appended (encoding ros2msg).
        type_hash: RIHS01 hash, or "" when unknown.
        has_header: the first field is a std_msgs/Header, so the stamp stands at a fixed place.
    """

    text: str
    type_hash: str
    has_header: bool


@dataclasses.dataclass(frozen=True)
class Connection:
    """A topic as it stands in a bag.

    Attributes:
        topic: name.
        type: message type.
        definition: its text and hash.
        qos: what the publishers offered.
        encoding: of the definition's text, ros2msg or ros2idl.
    """

    topic: str
    type: str
    definition: Definition
    qos: tuple[Qos, ...] = ()
    encoding: str = "ros2msg"


TELEOP_TOPICS = (
    RecordedTopic(SESSION_TOPIC, STRING, latched=True),
    RecordedTopic(STATUS_TOPIC, STRING),
    RecordedTopic(HAND_TOPIC, "geometry_msgs/msg/PoseStamped"),
    RecordedTopic(JOY_TOPIC, "sensor_msgs/msg/Joy"),
    RecordedTopic(TARGET_TOPIC, "geometry_msgs/msg/PoseStamped"),
    RecordedTopic(MEASURED_TOPIC, "geometry_msgs/msg/PoseStamped"),
)
"""What the teleop node tells; absent where somebody else demonstrates."""


@cache
def _typestore() -> Typestore:
    return get_typestore(Stores.ROS2_KILTED)


@cache
def definition(message_type: str) -> Definition:
    """Return the definition of a standard message type.

    Raises:
        RobosteerError: for a type that is not part of the ROS 2 standard messages.
    """
    store = _typestore()
    if message_type not in store.fielddefs:
        raise RobosteerError(
            f"message type: found {message_type!r}, expected a standard ROS 2 message such as {JOINT_STATE!r}; "
            "correct the topic's type in the rig file"
        )
    text, _ = store.generate_msgdef(message_type, ros_version=2)
    fields = store.fielddefs[message_type][1]
    has_header = bool(fields) and fields[0][1][1] == _HEADER
    return Definition(text, store.hash_rihs01(message_type), has_header)


def camera_info_topic(image_topic: str) -> str:
    """Return the camera_info topic beside an image topic, by image_transport's convention."""
    base = image_topic.removesuffix("/compressed")
    return f"{base.rsplit('/', 1)[0]}/camera_info"


def recorded_topics(rig: Rig) -> tuple[RecordedTopic, ...]:
    """Everything that an episode of this rig holds, each topic once."""
    topics = [
        _stream(rig.arm.state_topic, JOINT_STATE, rig.arm.state_rate_hz, max_gap_s=STATE_MAX_GAP_S),
        _stream(rig.gripper.state_topic, JOINT_STATE, rig.gripper.state_rate_hz),
    ]
    for camera in rig.cameras.values():
        topics.append(_stream(camera.topic, str(camera.type), camera.rate_hz))
        topics.append(RecordedTopic(camera_info_topic(camera.topic), "sensor_msgs/msg/CameraInfo"))
    topics += [RecordedTopic(name, message_type, action=True) for name, message_type in rig.action_topics().values()]
    topics += [
        RecordedTopic(rig.arm.command_topic, "std_msgs/msg/Float64MultiArray"),
        RecordedTopic(rig.gripper.command_topic, FLOAT64),
        RecordedTopic("/robosteer/guard/status", STRING, latched=True),
        *TELEOP_TOPICS,
    ]
    return tuple({topic.name: topic for topic in reversed(topics)}.values())[::-1]


def extra_topics(lines: str) -> tuple[RecordedTopic, ...]:
    """Topics beyond those of the rig, from "/topic:package/msg/Type ..."; a type with a ! behind it is latched.

    Raises:
        RobosteerError: for another form.
    """
    found = []
    for line in lines.split():
        name, colon, message_type = line.partition(":")
        if not (name.startswith("/") and colon and message_type.count("/") == 2):
            raise RobosteerError(f"extra_topics: found {line!r}, expected /topic:package/msg/Type")
        found.append(RecordedTopic(name, message_type.removesuffix("!"), latched=message_type.endswith("!")))
    return tuple(found)


def _stream(name: str, message_type: str, rate_hz: float, max_gap_s: float | None = None) -> RecordedTopic:
    # Three periods and 50 ms: two samples lost in a row, or a receiver that was late once, still pass.
    gap_s = max_gap_s if max_gap_s is not None else 3.0 / rate_hz + 0.05
    return RecordedTopic(name, message_type, needed=True, rate_hz=rate_hz, max_gap_s=gap_s)
