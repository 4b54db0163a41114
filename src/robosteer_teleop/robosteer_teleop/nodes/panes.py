"""Camera panes of the headset: JPEG images handed through as they come, for the cameras that were asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage

from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import Rig

_NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
MAX_RATE_HZ = 15.0


class CameraPanes:
    """Subscribes to cameras and shows every image that is due."""

    def __init__(self, node: Node, rig: Rig, names: Sequence[str], show: Callable[[str, bytes], None]) -> None:
        """Subscribe.

        Args:
            node: spins.
            rig: knows the topics.
            names: cameras to show; empty for none.
            show: takes a camera's name and a JPEG.

        Raises:
            RobosteerError: for a camera that the rig does not have, or that sends no JPEG.
        """
        for name in names:
            camera = rig.cameras.get(name)
            if camera is None or camera.encoding != "jpeg":
                have = ", ".join(n for n, c in rig.cameras.items() if c.encoding == "jpeg")
                raise RobosteerError(f"panes: found {name!r}, expected JPEG cameras of the rig: {have}")
            every = max(1, round(camera.rate_hz / MAX_RATE_HZ))
            node.create_subscription(CompressedImage, camera.topic, _pane(name, every, show), _NEWEST)


def _pane(name: str, every: int, show: Callable[[str, bytes], None]) -> Callable[[CompressedImage], None]:
    count = 0

    def receive(message: CompressedImage) -> None:
        nonlocal count
        count += 1
        if count % every == 0:
            show(name, bytes(message.data))

    return receive
