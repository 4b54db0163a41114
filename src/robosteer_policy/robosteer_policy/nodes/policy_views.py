"""What a person sees of an inference: the chunk, its record, the predicted path, and the pictures the model saw."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import MarkerArray

from robosteer_policy.acting import Result
from robosteer_policy.nodes import policy_messages as messages
from robosteer_policy.nodes.qos import LATCHED, RELIABLE
from robosteer_policy.requests import Look, record
from robosteer_rig.heat import overlay
from robosteer_rig.rig import Rig

CHUNK, RECORD, PATH, VIEW = (f"/robosteer/policy/{name}" for name in ("chunk", "chunk_record", "path", "view"))


class Views:
    """Publishes every inference that ended well.

    Args:
        node: that owns the topics.
        rig: cameras, frames.
        origin: what stays the same in every record.
        overlays: kinds that can be shown.
    """

    def __init__(self, node: Node, rig: Rig, origin: Mapping[str, Any], overlays: Collection[str]) -> None:
        self._rig, self._origin = rig, origin
        self._chunk = node.create_publisher(JointTrajectory, CHUNK, RELIABLE)
        self._record = node.create_publisher(String, RECORD, RELIABLE)
        self._path = node.create_publisher(MarkerArray, PATH, LATCHED)
        cameras = sorted(set(rig.policy_cameras.values()))
        self._pictures = {camera: node.create_publisher(Image, f"{VIEW}/{camera}", RELIABLE) for camera in cameras}
        self._overlays = {
            (kind, camera): node.create_publisher(Image, f"/robosteer/policy/{kind}/{camera}", RELIABLE)
            for kind in overlays
            for camera in cameras
        }

    def wanted(self) -> frozenset[str]:
        """The overlays that somebody looks at now."""
        return frozenset(kind for (kind, _), looked in self._overlays.items() if looked.get_subscription_count())

    def show(self, result: Result, *, accepted: bool) -> None:
        """Publish one; the trajectory, path and pictures only of chunks that are executed."""
        request, outcome = result.request, result.outcome
        if outcome is None:
            return
        self._record.publish(String(data=record(request, outcome, accepted=accepted, origin=self._origin)))
        if not accepted:
            return
        frame = request.frame
        self._chunk.publish(messages.trajectory(self._rig, outcome.chunk))
        self._path.publish(messages.path_markers(self._rig, outcome.chunk, outcome.shadow, frame.joint_position))
        for camera, publisher in self._pictures.items():
            if publisher.get_subscription_count():
                publisher.publish(messages.picture(frame.images[camera], frame.stamp_ns, camera))

    def draw(self, look: Look) -> None:
        """Publish overlays; one scale for all cameras."""
        frame = look.request.frame
        for kind, maps in look.overlays.items():
            largest = max((float(heat.max()) for heat in maps.values()), default=0.0)
            for field, heat in maps.items():
                camera = self._rig.policy_cameras[field.removeprefix("observation/")]
                image = frame.images[camera]
                drawn = overlay(image, heat, largest, len(image))
                self._overlays[kind, camera].publish(messages.picture(drawn, frame.stamp_ns, camera))
