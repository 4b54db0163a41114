"""`robosteer_rig.headset.Headset` over the operator's socket: what scripted operators hold in their hands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from robosteer_teleop.client import OperatorClient
from robosteer_teleop.control.frames import XR_TO_ROS
from robosteer_teleop.control.rotations import quaternion_from_matrix
from robosteer_teleop.protocol import Buttons, PoseFrame


class SocketHeadset:
    """A headset that is a socket. It stands where the operator's yaw is 0."""

    def __init__(self, client: OperatorClient) -> None:
        """Connect and start a session.

        Args:
            client: not connected yet.
        """
        self._client = client
        client.connect()
        straight = {"profile": "scripted", "frame_rate": 72.0, "ray_in_grip": [0.0, 0.0, 0.0, 1.0]}
        client.send({"type": "session", "state": "started", **straight})

    def send(
        self,
        position: np.ndarray,
        rotation: np.ndarray,
        *,
        squeeze: float = 0.0,
        trigger: float = 0.0,
        buttons: tuple[str, ...] = (),
    ) -> None:
        """Send one sample of the hand; see `robosteer_rig.headset.Headset`."""
        x, y, z = XR_TO_ROS.T @ position
        qx, qy, qz, qw = quaternion_from_matrix(XR_TO_ROS.T @ rotation @ XR_TO_ROS)
        pressed = Buttons(0)
        for name in buttons:
            pressed |= Buttons[name]
        now = self._client.clock()
        frame = PoseFrame(
            seq=self._client.next_seq(),
            send_time=now,
            frame_time=now,
            buttons=pressed,
            position=(float(x), float(y), float(z)),
            orientation=(float(qx), float(qy), float(qz), float(qw)),
            trigger=float(np.clip(trigger, 0.0, 1.0)),
            squeeze=float(np.clip(squeeze, 0.0, 1.0)),
        )
        self._client.send_frame(frame)

    @property
    def state(self) -> dict[str, Any]:
        """The newest state message."""
        return self._client.state

    def close(self) -> None:
        """Leave."""
        self._client.close()


def connect(connection_file: Path) -> SocketHeadset:
    """The entry point `socket` of `robosteer.headsets`.

    Raises:
        RobosteerError: without a server, or when it refuses.
    """
    return SocketHeadset(OperatorClient.from_file(connection_file))
