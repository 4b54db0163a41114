"""The operator's server: page, pairing, one operator, observers, pose frames in, state and images out. No ROS."""

from robosteer_teleop.server.config import ServerConfig
from robosteer_teleop.server.link import FAULTS, FrameTap, LinkEvent, LinkEventKind, ReceivedFrame
from robosteer_teleop.server.server import Access, OperatorServer, access_lines

__all__ = [
    "FAULTS",
    "Access",
    "FrameTap",
    "LinkEvent",
    "LinkEventKind",
    "OperatorServer",
    "ReceivedFrame",
    "ServerConfig",
    "access_lines",
]
