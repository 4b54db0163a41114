"""Check a recording against a rig."""

from __future__ import annotations

from pathlib import Path

from robosteer_rig.bags import BagReader
from robosteer_rig.check import RigCheck, TopicFacts
from robosteer_rig.rig import Rig
from robosteer_rig.streams import CLOCK_JUMP_NS


def check_bag(rig: Rig, path: Path) -> RigCheck:
    """Read a rosbag2 directory from beginning to end.

    Raises:
        RobosteerError: when the bag is missing or damaged.
    """
    with BagReader(path) as bag:
        check = RigCheck(rig, same_clock=_same_clock(bag, rig))
        readable = {}
        for stream, (topic, wanted) in rig.topics().items():
            if topic in bag.topics:
                summary = bag.topics[topic]
                check.facts[stream] = TopicFacts((summary.type,), summary.qos)
                if summary.type == wanted:
                    readable[topic] = stream
        for topic, log_ns, message in bag.messages(readable):
            check.receive(readable[topic], message, log_ns)
    return check


def _same_clock(bag: BagReader, rig: Rig) -> bool:
    """Whether log times and stamps are on one clock, judged by the first joint state: not so for simulated time."""
    topic, wanted = rig.arm.state_topic, "sensor_msgs/msg/JointState"
    if topic not in bag.topics or bag.topics[topic].type != wanted:
        return True
    for _, log_ns, message in bag.messages([topic]):
        stamp = message.header.stamp
        return abs(log_ns - (stamp.sec * 10**9 + stamp.nanosec)) < 3600 * CLOCK_JUMP_NS
    return True
