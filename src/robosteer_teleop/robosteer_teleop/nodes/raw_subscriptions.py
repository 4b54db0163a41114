"""Subscriptions that are polled instead of waited for, and that never deserialise.

An executor that wakes up for every message spends about half a core on 1 kHz of joint states, nearly all of it on
building wait sets. These subscriptions stay out of the wait set; a timer takes everything that has arrived since,
with the arrival time that the middleware noted.
"""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Sequence
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.subscription import Subscription
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from robosteer_teleop.topics import RecordedTopic

DEPTH = 200  # of each subscription: what may arrive between two polls, or during a stall
_MAX_PER_POLL = 10 * DEPTH


class _NeverWaitedFor(CallbackGroup):
    """Keeps its subscriptions out of the executor."""

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None:
        return None


@dataclasses.dataclass(frozen=True)
class RawArrival:
    """One received message.

    Attributes:
        receive_ns: wall-clock time of arrival, ns.
        topic: its name.
        data: CDR.
    """

    receive_ns: int
    topic: str
    data: bytes


class RawSubscriptions:
    """One subscription per topic, with the QoS of whoever publishes."""

    def __init__(self, node: Node, topics: Sequence[RecordedTopic]) -> None:
        """Subscribe at once, reliable: a publisher that appears later is heard from its first message on."""
        self._node = node
        self._topics = {topic.name: topic for topic in topics}
        self._group = _NeverWaitedFor()
        self._subscriptions: dict[str, Subscription] = {}
        self._qos: dict[str, QoSProfile] = {}
        for topic in topics:
            durability = DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE
            self._subscribe(topic, ReliabilityPolicy.RELIABLE, durability)

    def _subscribe(self, topic: RecordedTopic, reliability: ReliabilityPolicy, durability: DurabilityPolicy) -> None:
        qos = QoSProfile(depth=DEPTH, reliability=reliability, durability=durability)
        self._qos[topic.name] = qos
        self._subscriptions[topic.name] = self._node.create_subscription(
            _message_class(topic.type), topic.name, _unused, qos, raw=True, callback_group=self._group
        )

    def match_publishers(self) -> None:
        """Subscribe again where a publisher offers less than is asked for; call about once a second."""
        for topic in self._topics.values():
            offered = [info.qos_profile for info in self._node.get_publishers_info_by_topic(topic.name)]
            if not offered:
                continue
            qos = self._qos[topic.name]
            best_effort = any(o.reliability is ReliabilityPolicy.BEST_EFFORT for o in offered)
            volatile = any(o.durability is DurabilityPolicy.VOLATILE for o in offered)
            reliability = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
            keep = qos.durability is DurabilityPolicy.TRANSIENT_LOCAL and not volatile
            durability = DurabilityPolicy.TRANSIENT_LOCAL if keep else DurabilityPolicy.VOLATILE
            # Only ever towards less: the present subscription then misses what the new one hears.
            if (best_effort and qos.reliability is ReliabilityPolicy.RELIABLE) or durability is not qos.durability:
                self._node.destroy_subscription(self._subscriptions[topic.name])
                self._subscribe(topic, reliability, durability)

    def poll(self) -> list[RawArrival]:
        """Take everything that has arrived, in order of arrival."""
        arrivals: list[RawArrival] = []
        for name, subscription in self._subscriptions.items():
            with subscription.handle:
                for _ in range(_MAX_PER_POLL):
                    taken = subscription.handle.take_message(subscription.msg_type, True)
                    if taken is None:
                        break
                    data, info = taken
                    receive_ns = info["received_timestamp"] or time.time_ns()
                    arrivals.append(RawArrival(receive_ns, name, data))
        arrivals.sort(key=lambda arrival: arrival.receive_ns)
        return arrivals

    def offered_qos(self, topic: str) -> list[Qos]:
        """QoS of the topic's publishers in the form that bags store, each once."""
        profiles = [_to_bag(i.qos_profile) for i in self._node.get_publishers_info_by_topic(topic)]
        return [qos for i, qos in enumerate(profiles) if qos not in profiles[:i]]


def _unused(_: bytes) -> None:
    raise RuntimeError("a polled subscription was executed")


def _message_class(message_type: str) -> Any:
    package, _, name = message_type.partition("/msg/")
    return getattr(importlib.import_module(f"{package}.msg"), name)


def _to_bag(qos: QoSProfile) -> Qos:
    forever = QosTime(9223372036, 854775807)  # what rosbag2 writes for "infinite"
    history = QosHistory.KEEP_ALL if qos.history is HistoryPolicy.KEEP_ALL else QosHistory.KEEP_LAST
    best_effort = qos.reliability is ReliabilityPolicy.BEST_EFFORT
    latched = qos.durability is DurabilityPolicy.TRANSIENT_LOCAL
    manual = qos.liveliness is LivelinessPolicy.MANUAL_BY_TOPIC
    return Qos(
        history=history,
        depth=qos.depth,
        reliability=QosReliability.BEST_EFFORT if best_effort else QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=forever,
        lifespan=forever,
        liveliness=QosLiveliness.MANUAL_BY_TOPIC if manual else QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=forever,
        avoid_ros_namespace_conventions=qos.avoid_ros_namespace_conventions,
    )
