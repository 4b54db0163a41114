"""Is somebody else doing this already? Asked by a node that must be the only one, before it says anything.

The graph alone does not tell: the entry of a killed process stays for its lease of 20 s. A message comes from a living
one only.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

from robosteer_rig.errors import RobosteerError

# On one machine a living publisher is heard after 0.02 ... 0.04 s, and after 0.2 s while nobody lets it run.
PATIENCE_S = 0.5
# The name of a publisher's node travels after the publisher itself.
NAME_PATIENCE_S = 1.0
NAMELESS = "_NODE_NAME_UNKNOWN_"
POLL_S = 0.01
# A best-effort reader hears every publisher; a latched message is there as soon as its publisher is found.
STREAM = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT, durability=DurabilityPolicy.VOLATILE)
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclasses.dataclass(frozen=True)
class Claim:
    """A topic that a node wants for itself.

    Attributes:
        topic: its name.
        kind: class of its messages.
        latched: whether its publishers latch it.
        allowed: names of nodes that may speak there, too.
    """

    topic: str
    kind: type
    latched: bool = False
    allowed: tuple[str, ...] = ()


class Claims:
    """Listens from its construction on, without an executor, so that a node can load meanwhile.

    Args:
        node: that makes the claims, and publishes none of these topics yet.
        claims: the topics.
    """

    def __init__(self, node: Node, claims: Sequence[Claim]) -> None:
        self._node = node
        self._since_s = time.monotonic()
        self._ears: list[tuple[Claim, Subscription[Any]]] = [
            (claim, node.create_subscription(claim.kind, claim.topic, _unused, LATCHED if claim.latched else STREAM))
            for claim in claims
        ]
        self._speakers: dict[bytes, Claim] = {}

    def require(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until somebody is heard or `patience_s` have passed since the construction.

        Raises:
            RobosteerError: naming the node that has a topic already.
        """
        try:
            while True:
                waited_s = time.monotonic() - self._since_s
                self._listen()
                self._judge(final=waited_s >= patience_s + NAME_PATIENCE_S)
                if waited_s >= patience_s and not self._speakers:
                    return
                time.sleep(POLL_S)
        finally:
            for _, ear in self._ears:
                self._node.destroy_subscription(ear)

    def _listen(self) -> None:
        for claim, ear in self._ears:
            with ear.handle:
                while (taken := ear.handle.take_message(claim.kind, True)) is not None:
                    self._speakers[bytes((taken[1].get("publisher_gid") or {}).get("data", b""))] = claim

    def _judge(self, *, final: bool) -> None:
        """Refuse those who speak; forget those who may.

        Args:
            final: nobody's name is waited for any longer.
        """
        for gid, claim in list(self._speakers.items()):
            name = self._name(claim.topic, gid)
            if name in claim.allowed:
                del self._speakers[gid]
            elif name or final:
                raise RobosteerError(
                    f"{claim.topic}: found {f'node {name}' if name else 'somebody'} publishing it already, expected "
                    "nobody; stop it, or set ROS_DOMAIN_ID to a number of your own"
                )

    def _name(self, topic: str, gid: bytes) -> str:
        """The node of a publisher; empty while it is not known, or where the middleware does not tell."""
        for writer in self._node.get_publishers_info_by_topic(topic):
            known = bytes(writer.endpoint_gid)
            size = min(len(known), len(gid))
            if size and known[:size] == gid[:size] and writer.node_name != NAMELESS:
                return writer.node_name
        return ""


def _unused(_: object) -> None:
    raise RuntimeError("a polled subscription was executed")
