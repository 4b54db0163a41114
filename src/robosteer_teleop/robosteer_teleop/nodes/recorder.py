"""The node `recorder`: records one rosbag2 directory per episode, driven by services."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import String
from std_srvs.srv import Trigger

from robosteer_rig.nodes.running import StoppableNode, run_node
from robosteer_rig.parameters import required, required_rig
from robosteer_rig.rig import load_rig
from robosteer_teleop.answer import Answer, Now
from robosteer_teleop.episodes import Command, Limits
from robosteer_teleop.nodes.raw_subscriptions import RawSubscriptions
from robosteer_teleop.provenance import describe_hardware
from robosteer_teleop.session import RecordingSession
from robosteer_teleop.store import EpisodeStore
from robosteer_teleop.streams import FAILED_RATE, FROZEN_S, StreamWatch
from robosteer_teleop.topics import extra_topics, recorded_topics

POLL_PERIOD_S = 0.02
TICK_PERIOD_S = 0.1
STATE_PERIOD_S = 0.5
SECOND_S = 1.0
STATE_TOPIC = "/robosteer/recorder/state"


class RecorderNode(StoppableNode):
    """Wires topics, services and parameters to a `RecordingSession`."""

    def __init__(self) -> None:
        """Read the parameters, recover what a crash left, subscribe and offer the services.

        Raises:
            RobosteerError: for a wrong parameter, rig file or directory.
        """
        super().__init__("recorder")
        self._declare_parameters()
        rig = load_rig(required_rig(self._text("rig")))
        directory = Path(required("directory", self._text("directory"), "where episodes go")).expanduser().resolve()
        topics = (*recorded_topics(rig), *extra_topics(self._text("extra_topics")))
        self._store = EpisodeStore(directory)
        for recovered in self._store.recover_partials():
            self.get_logger().warning(f"episode {recovered.episode:06d}: {recovered.text}: {recovered.path}")
        self._raw = RawSubscriptions(self, topics)
        self._session = RecordingSession(
            self._store,
            rig,
            topics,
            limits=self._limits(),
            stream_watch=StreamWatch(
                topics,
                min_rate_fraction=self._number("min_rate_fraction"),
                frozen_s=self._number("frozen_s"),
                check_clocks=not self.get_parameter("use_sim_time").value,
            ),
            offered_qos=self._raw.offered_qos,
            allow_change=bool(self.get_parameter("allow_change").value),
            hardware=describe_hardware(rig, self._text("serials"), self._text("calibration")),
        )
        self._session.announce = self._publish_state
        latched = QoSProfile(
            depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
        )
        self._state = self.create_publisher(String, STATE_TOPIC, latched)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        for command in Command:
            self.create_service(Trigger, f"~/{command.value}", self._service(command))
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # a stopped simulation must not stop the recorder
        self.create_timer(POLL_PERIOD_S, self._poll, clock=steady)
        self.create_timer(TICK_PERIOD_S, self._tick, clock=steady)
        self.create_timer(STATE_PERIOD_S, self._publish_state, clock=steady)
        self.create_timer(SECOND_S, self._every_second, clock=steady)
        self._degraded = False
        self._publish_state()
        self.get_logger().info(f"recording into {directory}, next episode {self._store.next_episode:06d}")

    def _declare_parameters(self) -> None:
        fixed = {"read_only": True}
        self.declare_parameter("rig", "", ParameterDescriptor(description="path of the rig file", **fixed))
        self.declare_parameter(
            "directory",
            "demos",
            ParameterDescriptor(description="directory that gets one subdirectory per episode", **fixed),
        )
        self.declare_parameter(
            "instruction",
            "",
            ParameterDescriptor(description="what is shown, read at each start; for example 'pick up red cube'"),
        )
        texts = {
            "extra_topics": "more topics, /topic:package/msg/Type ..., Type! for latched ones",
            "serials": "serial numbers for episode.json, arm=... gripper=... CAMERA=...",
            "calibration": "path of the cameras' calibration; its SHA-256 goes into episode.json",
        }
        for name, text in texts.items():
            self.declare_parameter(name, "", ParameterDescriptor(description=text, **fixed))
        numbers = {
            "min_free_gib": (2.0, 0.0, 1e6, "no start below this much free disk, GiB; half of it ends an episode"),
            "max_episode_s": (300.0, 1.0, 86400.0, "an episode ends by itself after this time, s"),
            "start_patience_s": (3.0, 0.0, 60.0, "a start waits this long for needed streams before it is refused, s"),
            "min_rate_fraction": (
                FAILED_RATE,
                0.0,
                1.0,
                "no start while a stream is below this share of the rig's rate",
            ),
            "frozen_s": (FROZEN_S, 0.0, 60.0, "a camera that repeats a picture for longer has failed, s; 0: unchecked"),
            "countdown_s": (0.0, 0.0, 30.0, "between a start and the recording, s"),
            "preroll_s": (1.0, 0.0, 10.0, "the bag is open this long before the countdown ends, s"),
        }
        switches = {
            "strict": "a needed stream that fails ends the running episode",
            "confirm_degraded": "keeping an episode with failed streams must be asked for twice",
            "allow_change": "another task or rig than the directory's begins a new session instead of being refused",
        }
        for name, text in switches.items():
            self.declare_parameter(name, False, ParameterDescriptor(description=text, **fixed))
        for name, (default, low, high, text) in numbers.items():
            span = FloatingPointRange(from_value=low, to_value=high)
            descriptor = ParameterDescriptor(description=text, floating_point_range=[span], **fixed)
            self.declare_parameter(name, default, descriptor)

    def _text(self, name: str) -> str:
        return str(self.get_parameter(name).value)

    def _limits(self) -> Limits:
        return Limits(
            max_episode_s=self._number("max_episode_s"),
            min_free_bytes=int(self._number("min_free_gib") * 2**30),
            countdown_s=self._number("countdown_s"),
            preroll_s=self._number("preroll_s"),
            strict=bool(self.get_parameter("strict").value),
            confirm_degraded=bool(self.get_parameter("confirm_degraded").value),
        )

    def _number(self, name: str) -> float:
        return float(self.get_parameter(name).value or 0.0)

    def finish(self) -> None:
        """Close an unfinished episode as `recovered` and release the directory."""
        self._poll()
        answer = self._session.shutdown(_now())
        if answer is not None:
            self._log(answer)
        self._publish_state()
        self._store.close()

    def _service(self, command: Command) -> Callable[[Trigger.Request, Trigger.Response], Trigger.Response]:
        def handle(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            # What arrived before the command belongs before it: not into an episode that starts now, and
            # certainly into one that ends now.
            self._poll()
            if command is Command.START:
                self._wait_for_streams()
            instruction = str(self.get_parameter("instruction").value)
            answer = self._session.command(command, _now(), instruction=instruction)
            self._log(answer)
            self._publish_state()
            response.success = answer.accepted
            response.message = json.dumps(answer.to_json())
            return response

        return handle

    def _wait_for_streams(self) -> None:
        """Give drivers that have just started, or just been reset, a moment before a start is refused."""
        deadline_s = time.monotonic() + self._number("start_patience_s")
        while not self._session.ready(_now()) and time.monotonic() < deadline_s:
            time.sleep(POLL_PERIOD_S)
            self._poll()
            self._tick()

    def _log(self, answer: Answer) -> None:
        logger = self.get_logger()
        if not answer.accepted:
            logger.error(answer.reason)
            return
        note = f" ({answer.reason})" if answer.reason else ""
        logger.info(f"{answer.state.value}: {answer.path}{note}")

    def _poll(self) -> None:
        now = _now()
        for arrival in self._raw.poll():
            self._session.receive(arrival.topic, arrival.receive_ns, arrival.data, now)
        self._session.flush(now)

    def _tick(self) -> None:
        before = self._session.state
        self._session.instruction = str(self.get_parameter("instruction").value)
        for line in self._session.tick(_now()):
            self.get_logger().warning(line)
        if self._session.state is not before:
            self._publish_state()

    def _publish_state(self) -> None:
        status = self._session.status(_now())
        self._state.publish(String(data=json.dumps(status)))

    def _every_second(self) -> None:
        self._raw.match_publishers()
        status = self._session.status(_now())
        if status["degraded"] and not self._degraded:
            self.get_logger().warning(f"episode {status['episode']:06d} is degraded: {'; '.join(status['problems'])}")
        self._degraded = status["degraded"]
        level = DiagnosticStatus.OK if not (status["problems"] or status["warnings"]) else DiagnosticStatus.WARN
        values = [KeyValue(key=key, value=str(status[key])) for key in ("episode", "kept", "discarded", "free_gib")]
        message = "; ".join([*status["problems"], *status["warnings"]]) or status["state"]
        entry = DiagnosticStatus(level=level, name="robosteer: recorder", message=message, values=values)
        array = DiagnosticArray(status=[entry])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)


def _now() -> Now:
    return Now(time.time_ns(), time.monotonic())


def main() -> int:
    """Run the node."""
    return run_node(RecorderNode)
