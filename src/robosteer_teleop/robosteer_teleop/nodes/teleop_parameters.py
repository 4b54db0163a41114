"""Parameters of the node `teleop`, declared and turned into settings of its parts."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from robosteer_rig.parameters import required_rig
from robosteer_rig.rig import Rig
from robosteer_teleop.control.core import CoreConfig
from robosteer_teleop.control.presets import LIMITS, SCALINGS, Bounds, choose
from robosteer_teleop.output import CARTESIAN, JOINT_VELOCITY, require_output
from robosteer_teleop.server import ServerConfig

INSIDE_M = 0.005  # the target stays this far inside the guard's workspace

_TABLE: dict[str, tuple[Any, str]] = {
    "rig": ("", "path of the rig file"),
    "output": (JOINT_VELOCITY, f"{JOINT_VELOCITY}: through the guard; {CARTESIAN}: poses to an impedance controller"),
    "unguarded": (False, f"accept output {CARTESIAN}, whose targets no other process checks"),
    "controller": ("/cartesian_impedance_controller", f"node of the impedance controller, with output {CARTESIAN}"),
    "target_topic": ("/target_pose", f"where output {CARTESIAN} publishes; nobody else may"),
    "limits": ("teach", f"speed and acceleration of the target: {', '.join(LIMITS)}"),
    "scaling": ("full", f"of the hand's motion at the start: {', '.join(SCALINGS)}"),
    "align_first": (True, "measure where the operator stands before the first move"),
    "yaw_deg": (0.0, "where the operator stands when align_first is false, deg"),
    "binary_gripper": (False, "the gripper knows open and closed only"),
    "host": ("auto", "address to serve on; auto, an IPv4 address or 0.0.0.0"),
    "port": (8443, "TLS port; 0 for any free one, -1 for none"),
    "loopback_port": (8080, "plain HTTP port on 127.0.0.1; 0 for any free one, -1 for none"),
    "connection_file": ("", "where address and codes are written for this host's own programs; empty for nowhere"),
    "pose_log_dir": ("", "directory for pose logs; empty for none"),
    "panes": ("", "cameras shown in the headset, separated by spaces"),
    "episodes": (0, "how many the operator wants to record; 0 for no number"),
    "operator_alias": ("", "who demonstrates, for episode.json"),
}


class TeleopParameters:
    """The values, read once.

    Attributes:
        rig: path of the rig file.
        output: joint_velocity or cartesian.
        controller: the impedance controller's node.
        target_topic: of the impedance controller.
        episodes: wanted.
        panes: camera names.
        pose_log: a new file; None for none.
    """

    def __init__(self, node: Node) -> None:
        """Declare and read.

        Raises:
            RobosteerError: for a value that makes no sense.
        """
        self._values: dict[str, Any] = {
            name: node.declare_parameter(name, default, ParameterDescriptor(description=text, read_only=True)).value
            for name, (default, text) in _TABLE.items()
        }
        self.rig = required_rig(self._values["rig"])
        self.output: str = self._values["output"]
        require_output(self.output, unguarded=self._values["unguarded"])
        self.controller: str = self._values["controller"]
        self.target_topic: str = self._values["target_topic"]
        self.episodes: int = self._values["episodes"]
        self.panes: list[str] = self._values["panes"].split()
        directory = self._values["pose_log_dir"]
        name = time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + f"-{time.time_ns() % 10**9:09d}.poses"
        self.pose_log: Path | None = Path(directory).expanduser() / name if directory else None

    def core_config(self, rig: Rig) -> CoreConfig:
        """Settings of the control core.

        Raises:
            RobosteerError: for unknown presets.
        """
        yaw = None if self._values["align_first"] else math.radians(self._values["yaw_deg"])
        return CoreConfig(
            limits=choose(LIMITS, self._values["limits"], "limits"),
            bounds=bounds_of(rig),
            scaling=choose(SCALINGS, self._values["scaling"], "scaling"),
            yaw=yaw,
            follow_measured=self.output == JOINT_VELOCITY,
            binary_gripper=self._values["binary_gripper"],
        )

    def server_config(self) -> ServerConfig:
        """Settings of the operator's server."""
        path = self._values["connection_file"]
        return ServerConfig(
            host=self._values["host"],
            port=_port(self._values["port"]),
            loopback_port=_port(self._values["loopback_port"]),
            connection_file=Path(path).expanduser() if path else None,
        )

    def described(self) -> dict[str, Any]:
        """What episode.json should say about the node's settings."""
        names = ("output", "controller", "limits", "binary_gripper", "operator_alias")
        found = {name: self._values[name] for name in names}
        return {**found, "pose_log": self.pose_log.name if self.pose_log is not None else ""}


def bounds_of(rig: Rig) -> Bounds:
    """The target's box: a little inside the rig's workspace, above its table."""
    if rig.workspace is None:
        return Bounds()
    low, high = list(rig.workspace.low), list(rig.workspace.high)
    if rig.workspace.table_z is not None:
        low[2] = max(low[2], rig.workspace.table_z)
    lower = (low[0] + INSIDE_M, low[1] + INSIDE_M, low[2] + INSIDE_M)
    return Bounds(lower=lower, upper=(high[0] - INSIDE_M, high[1] - INSIDE_M, high[2] - INSIDE_M))


def _port(value: int) -> int | None:
    return None if value < 0 else value
