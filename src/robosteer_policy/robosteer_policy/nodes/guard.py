"""The guard node: between every source of motion and the arm, and the only publisher of the arm's command topic.

It needs numpy and rclpy only, so that nothing a policy does (compiling, swapping, crashing) can touch it.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.parameter import Parameter as RosParameter
from rclpy.subscription import MessageInfo
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import SetBool

from robosteer_policy.guard.gate import Gate, Source, State
from robosteer_policy.guard.impedance import for_impedance
from robosteer_policy.guard.interlocks import Interlock
from robosteer_policy.guard.limits import Limits, arm_limits
from robosteer_policy.guard.proof import parse_requirements
from robosteer_policy.guard.settings import GuardSettings
from robosteer_policy.guard.status import describe
from robosteer_policy.guard.streams import Command, Instant
from robosteer_policy.guard.workspace import WorkspaceLimits
from robosteer_policy.nodes.guard_interlocks import LimiterProof, deadman, watchdog
from robosteer_policy.nodes.guard_output import MODES, make_output
from robosteer_policy.nodes.parameters import Parameter, declare
from robosteer_policy.nodes.qos import LATCHED, RELIABLE
from robosteer_rig.errors import RobosteerError
from robosteer_rig.guard_status import TOPIC as STATUS_TOPIC
from robosteer_rig.nodes.claims import Claim, Claims
from robosteer_rig.nodes.running import StoppableNode, run_node
from robosteer_rig.parameters import required_rig
from robosteer_rig.rig import load_rig
from robosteer_rig.units import stamp_ns

# Zeros are sent for so long before the node ends, s: the controller's subscription is best effort.
LAST_ZEROS_S = 0.5
# Nodes that may have a publisher on the arm's command topic: it speaks only when the guard no longer does.
SPARED = ("watchdog",)
DEFAULTS = GuardSettings()
PARAMETERS = (
    Parameter("rig", "", "path of the rig file"),
    Parameter("source", "teleop", f"who may move the arm: {', '.join(Source)}", changeable=True),
    Parameter("mode", MODES[0], f"what the arm's controller understands: {' or '.join(MODES)}"),
    Parameter("target_topic", "/target_joint", "where joint_impedance publishes its targets"),
    Parameter("auto_arm", False, "arm by itself once after the start; for simulation only"),
    Parameter("rate_hz", 100.0, "rate of the command topic, Hz"),
    Parameter("speed_limit", 0.0, "limit for every joint below the rig's own, rad/s; 0 takes the rig's"),
    Parameter("silence_s", DEFAULTS.silence_s, "a moving policy that is silent for longer is a fault, s"),
    Parameter("joint_state_s", 0.0, "joint states older than this are a fault, s; 0 takes the rig's arm.max_age_s"),
    Parameter(
        "ramp_s", DEFAULTS.ramp_s, "a source that begins to speak is obeyed at full speed no sooner than this, s"
    ),
    Parameter("frozen_s", DEFAULTS.frozen_s, "a guard that was not scheduled for so long faults, s"),
    Parameter("controller_s", 0.0, "without commands the controller brakes after this, s; 0 takes the rig's timeout"),
    Parameter("deadman_topic", "", "std_msgs/Bool that a person keeps true while the arm may move; empty for none"),
    Parameter("deadman_s", 0.15, "a deadman that is silent for longer counts as released, s"),
    Parameter("require_watchdog", False, "move only while the watchdog beside the controller is alive"),
    Parameter("watchdog_s", 0.2, "a watchdog that is silent for longer counts as dead, s"),
    Parameter("limiter_proof", "", "/node:parameter=value ... that must hold in the controller's process"),
)
SETTINGS = ("silence_s", "joint_state_s", "ramp_s", "controller_s", "frozen_s")


def parse_source(value: str) -> Source:
    """Name -> source; a `RobosteerError` lists the known ones."""
    if value not in list(Source):
        raise RobosteerError(f"source: found {value!r}, expected one of {', '.join(Source)}")
    return Source(value)


class GuardNode(StoppableNode):
    """Wires the gate to topics, services and a clock."""

    def __init__(self) -> None:
        super().__init__("guard")
        values = declare(self, PARAMETERS)
        if not 20 <= values["rate_hz"] <= 250:
            raise RobosteerError(f"rate_hz: found {values['rate_hz']}, expected 20 ... 250")
        self._rig = load_rig(required_rig(values["rig"]))
        limits = self._limits(values)
        interlocks = self._interlocks(values)
        source = parse_source(values["source"])
        self._gate = Gate(self._rig.arm.joints, limits, self._settings(values), source, interlocks)
        self._mode: str = values["mode"]
        self._claim(values["target_topic"])
        self._output = make_output(self, self._rig, limits, self._mode, values["target_topic"])
        self._auto_arm = values["auto_arm"]
        self._shown: tuple[str, ...] = ()
        self._connect()
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._periodic = [
            self.create_timer(limits.period_s, self._tick, clock=steady),
            self.create_timer(1.0, self._report, clock=steady),
            self.create_timer(0.5, self._look_for_rivals, clock=steady),
        ]
        self.add_on_set_parameters_callback(self._on_parameters)
        self.create_service(SetBool, "~/arm", self._on_arm)
        self._show_state()

    def _limits(self, values: dict[str, Any]) -> Limits:
        rig = self._rig
        workspace = None if rig.workspace is None else WorkspaceLimits(rig.workspace, rig.frames)
        limits = arm_limits(rig.arm, 1 / values["rate_hz"], values["speed_limit"] or None, workspace)
        return limits if values["mode"] == MODES[0] else for_impedance(limits, 1 / rig.action.rate_hz)

    def _settings(self, values: dict[str, Any]) -> GuardSettings:
        hold_s = self._rig.action.command_timeout_s
        values["joint_state_s"] = values["joint_state_s"] or self._rig.arm.max_age_s
        values["controller_s"] = values["controller_s"] or hold_s
        settings = GuardSettings(hold_s=hold_s, **{name: values[name] for name in SETTINGS})
        if self.get_parameter("use_sim_time").value:
            # A simulator's clock ticks coarsely and pauses with the simulator.
            settings = dataclasses.replace(settings, future_s=0.1, clock_jump_s=0.5)
        return settings

    def _interlocks(self, values: dict[str, Any]) -> list[Interlock]:
        found = []
        if values["deadman_topic"]:
            found.append(deadman(self, values["deadman_topic"], values["deadman_s"], self._now))
        if values["require_watchdog"]:
            found.append(watchdog(self, values["watchdog_s"], self._now))
        if requirements := parse_requirements(values["limiter_proof"].split()):
            found.append(LimiterProof(self, requirements, self._now).interlock)
        return found

    def _claim(self, target_topic: str) -> None:
        """Make sure, before anything is published, that no other guard (or cell's controller) commands this arm."""
        velocities = self._mode == MODES[0]
        topic, kind = (self._rig.arm.command_topic, Float64MultiArray) if velocities else (target_topic, JointState)
        Claims(self, [Claim(STATUS_TOPIC, String, latched=True), Claim(topic, kind, allowed=SPARED)]).require()

    def _connect(self) -> None:
        arm, gripper = self._rig.arm, self._rig.gripper
        self._gripper = self.create_publisher(Float64, gripper.command_topic, RELIABLE)
        self._status = self.create_publisher(String, STATUS_TOPIC, LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", RELIABLE)
        self.create_subscription(JointState, arm.state_topic, self._on_joint_state, RELIABLE)
        for source in Source:
            prefix = f"/robosteer/{source}"
            self.create_subscription(JointState, f"{prefix}/command", self._command_callback(source), RELIABLE)
            self.create_subscription(Float64, f"{prefix}/gripper", self._gripper_callback(source), RELIABLE)

    def _now(self) -> Instant:
        return Instant(time.monotonic_ns(), self.get_clock().now().nanoseconds)

    def _command_callback(self, source: Source) -> Callable[[JointState, MessageInfo], None]:
        def receive(message: JointState, info: MessageInfo) -> None:
            command = Command(
                stamp_ns(message.header.stamp.sec, message.header.stamp.nanosec),
                list(message.name),
                message.velocity,
                foreign=bool(len(message.position) or len(message.effort)),
                publisher=_writer(info),
            )
            self._gate.on_command(source, command, self._now())

        return receive

    def _gripper_callback(self, source: Source) -> Callable[[Float64], None]:
        def receive(message: Float64) -> None:
            self._gate.on_gripper(source, message.data, self._now())

        return receive

    def _on_joint_state(self, message: JointState) -> None:
        # `Time` raises for a time before 1970; nothing that a stranger sends may end this node.
        at_ns = stamp_ns(message.header.stamp.sec, message.header.stamp.nanosec)
        self._gate.on_joint_state(at_ns, list(message.name), message.position, message.velocity, self._now())

    def _tick(self) -> None:
        now = self._now()
        known = self._gate.position is not None
        if self._auto_arm and known and not (self._rivals() or self._gate.arm(now)):
            self._auto_arm = False
        self._send(now)
        position = self._gate.gripper.due(now.steady_ns)
        if position is not None:
            self._gripper.publish(Float64(data=position))
        if self._state() != self._shown:
            self._show_state()

    def _send(self, now: Instant) -> np.ndarray:
        velocity = self._gate.tick(now)
        self._output.send(velocity, self._gate.position)
        return velocity

    def _on_arm(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if request.data:
            trouble = self._rivals() or self._gate.arm(self._now())
        else:
            self._auto_arm, trouble = False, ""
            self._gate.disarm()
        response.success = not trouble
        response.message = trouble or self._gate.reason
        self._show_state()
        return response

    def _on_parameters(self, parameters: Sequence[RosParameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name != "source":
                continue
            try:
                self._gate.select(parse_source(str(parameter.value)))
            except RobosteerError as error:
                return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _rivals(self) -> str:
        """Say who else publishes the arm's commands, or return an empty string."""
        topic = self._output.topic
        # An entry of a killed process stays for its lease of 20 s.
        writers = [info.node_name for info in self.get_publishers_info_by_topic(topic)]
        others = [name for name in writers if name not in (self.get_name(), *SPARED)]
        count = len(others) + max(writers.count(self.get_name()) - 1, 0)
        return f"{topic}: found {count} other publishers, expected the guard alone; stop them" if count else ""

    def _look_for_rivals(self) -> None:
        if trouble := self._rivals():
            self._gate.fault(trouble)

    def _state(self) -> tuple[str, ...]:
        gate = self._gate
        return gate.state, gate.source, gate.pending_source or "", gate.reason

    def _show_state(self) -> None:
        if self._state() != self._shown:
            line = f"{self._gate.state}: {self._gate.reason}"
            if self._gate.state is State.FAULT:
                self.get_logger().warning(line)
            else:
                self.get_logger().info(line)
        self._shown = self._state()
        self._publish_status()

    def _publish_status(self) -> None:
        self._status.publish(String(data=json.dumps(describe(self._gate, self._mode))))

    def _report(self) -> None:
        gate = self._gate
        level = {State.ARMED: DiagnosticStatus.OK, State.DISARMED: DiagnosticStatus.WARN}
        status = DiagnosticStatus(
            level=level.get(gate.state, DiagnosticStatus.ERROR),
            name="robosteer: guard",
            message=f"{gate.state}: {gate.reason}",
            hardware_id=self._rig.name,
            values=[KeyValue(key=key, value=str(value)) for key, value in sorted(gate.counters.items())],
        )
        self._diagnostics.publish(DiagnosticArray(status=[status]))
        self._show_state()

    def finish(self) -> None:
        """Slew to rest and repeat zeros, without the executor: it may be an exception of ours that ends the guard."""
        self._gate.disarm("guard is ending")
        period_s = self._gate.limiter.limits.period_s
        try:
            while self._send(self._now()).any():
                time.sleep(period_s)
            self._publish_status()
        finally:
            # Even if slewing itself is what fails.
            for _ in range(round(LAST_ZEROS_S / period_s)):
                self._output.send(np.zeros(len(self._rig.arm.joints)), self._gate.position)
                time.sleep(period_s)


def _writer(info: MessageInfo) -> bytes | None:
    """Identity of a message's publisher, where this ROS distribution tells it."""
    gid = info.get("publisher_gid")
    return bytes(gid["data"]) if gid else None


def main() -> int:
    """Entry point of `ros2 run robosteer_policy guard`."""
    return run_node(GuardNode)
