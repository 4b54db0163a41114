"""The policy node: cameras and joint states in, commands at the rig's rate out, inference in a thread of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.duration import Duration as RosDuration
from rclpy.parameter import Parameter as RosParameter
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Float64, String
from std_srvs.srv import SetBool, Trigger

from robosteer_policy.acting import Acting, State
from robosteer_policy.camera_watch import CameraWatch, ahead_of_time
from robosteer_policy.chunks import Action
from robosteer_policy.nodes import policy_messages as messages
from robosteer_policy.nodes.guard_listener import GuardListener
from robosteer_policy.nodes.parameters import declare
from robosteer_policy.nodes.policy_parameters import (
    PARAMETERS,
    make_lateness,
    make_source,
    make_steering,
    make_strategy,
)
from robosteer_policy.nodes.policy_views import Views
from robosteer_policy.nodes.qos import CAMERA, LATCHED, RELIABLE
from robosteer_policy.nodes.steering_interface import SteeringInterface
from robosteer_policy.overlays import ATTENTION, CLUSTER
from robosteer_policy.timing import Timing
from robosteer_policy.worker import Worker
from robosteer_rig.align import Aligner
from robosteer_rig.errors import RobosteerError
from robosteer_rig.nodes.running import StoppableNode, run_node
from robosteer_rig.parameters import required, required_rig
from robosteer_rig.rig import load_rig
from robosteer_rig.units import stamp_ns

# The present action is repeated so often between two actions: the guard notices a dead policy after
# `action.command_timeout_s`, not after one and a half actions.
REPEAT_HZ = 100.0
# Stamps this far ahead end a run. On simulated time a message may be read before the /clock that it belongs to.
AHEAD_S, AHEAD_SIMULATED_S = 0.05, 0.5


class PolicyNode(StoppableNode):
    """Wires `Acting` to topics, services and a clock."""

    def __init__(self) -> None:
        super().__init__("policy")
        values = declare(self, PARAMETERS)
        self._rig = load_rig(required_rig(values["rig"]))
        required("instruction", values["instruction"], "what the policy shall do", '"pick up red cube"')
        if not values["server"]:
            required("checkpoint", values["checkpoint"], "the directory of a checkpoint, or a policy server as server")
        self._aligner = Aligner(self._rig)
        self._watch = CameraWatch(tuple(self._rig.cameras))
        self._ahead_s = AHEAD_SIMULATED_S if self.get_parameter("use_sim_time").value else AHEAD_S
        presets, mixer = make_steering(values)
        source = make_source(values, presets)
        self._origin = source.origin()
        self._worker = Worker(source, self._rig)
        self._steering = SteeringInterface(self, mixer, values["shadow"], lambda: self._worker.fingerprint)
        self._guard = GuardListener(self, "policy")
        self._acting = Acting(
            self._rig,
            self._aligner,
            self._worker,
            make_strategy(values["execution"], values["execute_steps"]),
            values["instruction"],
            steering=self._steering.present,
            may_move=self._guard.trouble,
            overlays=lambda: self._views.wanted(),
            ended=self._steering.release,
            lateness=make_lateness(values, self._rig.action.rate_hz),
        )
        self._auto_enable: bool = values["auto_enable"]
        self._intervals = Timing()
        self._last_tick_s: float | None = None
        self._shown: tuple[str, ...] = ()
        self._commands = 0
        self._present: Action | None = None
        shown = {ATTENTION: values["attention_heads"].strip(), CLUSTER: values["cluster_overlay"]}
        self._connect([kind for kind, what in shown.items() if what])
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._periodic = [
            self.create_timer(1 / self._rig.action.rate_hz, self._tick, clock=steady),
            self.create_timer(1 / REPEAT_HZ, self._repeat, clock=steady),
            self.create_timer(1.0, self._report, clock=steady),
        ]
        self.add_on_set_parameters_callback(self._on_parameters)
        self._show_state()
        self._worker.start()

    def _connect(self, overlays: Sequence[str]) -> None:
        self._command = self.create_publisher(JointState, "/robosteer/policy/command", RELIABLE)
        self._gripper = self.create_publisher(Float64, "/robosteer/policy/gripper", RELIABLE)
        self._state = self.create_publisher(String, "/robosteer/policy/state", LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", RELIABLE)
        self._views = Views(self, self._rig, self._origin, overlays)
        for stream, (topic, kind) in self._rig.observation_topics().items():
            if stream not in self._aligner.streams:
                continue
            message = {"Image": Image, "CompressedImage": CompressedImage}.get(kind.rpartition("/")[2], JointState)
            qos = RELIABLE if message is JointState else CAMERA
            self.create_subscription(message, topic, self._receiver(stream), qos)
        self.create_subscription(String, "~/instruction", self._on_instruction, RELIABLE)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/stop", self._on_stop)

    def _receiver(self, stream: str) -> Callable[[Any], None]:
        def receive(message: Any) -> None:
            try:
                self._aligner.receive(stream, message, self._now_ns())
                trouble = self._look(stream, message)
            except RobosteerError as error:
                trouble = str(error)
            if trouble:
                self._stop(trouble)

        return receive

    def _look(self, stream: str, message: Any) -> str:
        """What a fresh and well-formed message still shows to be wrong."""
        at_ns = stamp_ns(message.header.stamp.sec, message.header.stamp.nanosec)
        if trouble := ahead_of_time(stream, at_ns, self._now_ns(), self._ahead_s):
            return trouble
        if stream in self._rig.cameras:
            return self._watch.see(stream, message.header.frame_id, memoryview(message.data), at_ns)
        if self._rig.arm.joints[0] in message.name and len(message.velocity):
            self._watch.moves(float(np.abs(message.velocity).max()), at_ns)
        return ""

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _tick(self) -> None:
        self._measure_interval()
        now_ns = self._now_ns()
        if self._auto_enable and self._acting.state is State.READY and not self._acting.enable(now_ns):
            self._auto_enable = False
        step = self._acting.step(now_ns)
        self._act(step.action)
        if step.finished is not None:
            self._views.show(step.finished, accepted=step.accepted)
        if (look := self._worker.look()) is not None:
            self._views.draw(look)
            if look.trouble:
                self.get_logger().warning(f"overlay: {look.trouble}", throttle_duration_sec=5.0)
        self.failure = self._worker.failure
        if self._states() != self._shown:
            self._show_state()

    def _measure_interval(self) -> None:
        now_s = time.monotonic()
        if self._last_tick_s is not None and self._acting.state is State.RUNNING:
            self._intervals.add(now_s - self._last_tick_s)
        self._last_tick_s = now_s

    def _act(self, action: Action | None) -> None:
        """Begin a new action, or fall silent."""
        self._present = action
        if action is None:
            return
        self._commands += 1
        self._say(action)
        if action.gripper is not None:
            self._gripper.publish(Float64(data=action.gripper))

    def _repeat(self) -> None:
        instead = self._acting.watch(self._now_ns())
        if instead is not None:
            self._present = instead
        if self._present is not None and (instead is not None or self._acting.state is State.RUNNING):
            self._say(self._present)

    def _say(self, action: Action) -> None:
        stamp = self.get_clock().now()
        self._command.publish(messages.command(self._rig, action.velocity, stamp, self._commands))

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        trouble = ""
        if request.data:
            trouble = self._acting.enable(self._now_ns())
        else:
            self._auto_enable = False
            self._acting.disable()
        self._rest()
        response.success, response.message = not trouble, trouble or self._acting.reason
        self._show_state()
        return response

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._auto_enable = False
        self._stop("stopped on request")
        response.success, response.message = True, self._acting.reason
        return response

    def _stop(self, reason: str) -> None:
        """End the run, say so to the guard at once, and release the steering."""
        if self._acting.state is State.LOADING:
            return
        self._acting.stop(reason)
        self._rest()
        self._steering.release()
        self._show_state()

    def _rest(self) -> None:
        """Say at once what `Acting` wants to have said (the command of rest that ends a run)."""
        action = self._acting.last_word()
        if action is not None:
            self._act(action)

    def _on_instruction(self, message: String) -> None:
        parameter = RosParameter("instruction", RosParameter.Type.STRING, message.data)
        for result in self.set_parameters([parameter]):
            if not result.successful:
                self.get_logger().warning(result.reason)

    def _on_parameters(self, parameters: Sequence[RosParameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name != "instruction":
                continue
            if not str(parameter.value).strip():
                return SetParametersResult(successful=False, reason="instruction: found nothing, expected words")
            self._acting.instruction = str(parameter.value)
        return SetParametersResult(successful=True)

    def _states(self) -> tuple[str, ...]:
        return self._acting.state, self._acting.reason, self._acting.instruction

    def _show_state(self) -> None:
        if self._states() != self._shown:
            self.get_logger().info(f"{self._acting.state}: {self._acting.reason}")
        self._shown = self._states()
        state = {
            "schema": "robosteer.policy/1",
            "state": self._acting.state,
            "reason": self._acting.reason,
            **self._origin,
            "instruction": self._acting.instruction,
            "chunks": self._acting.chunks,
            "commands": self._commands,
            "pauses": self._acting.lateness.pauses,
            "discarded": self._acting.lateness.discarded,
            "latency_ms": self._worker.latency.milliseconds(),
            "interval_ms": self._intervals.milliseconds(),
        }
        self._state.publish(String(data=json.dumps(state)))

    def _report(self) -> None:
        acting = self._acting
        level = DiagnosticStatus.OK if acting.state in (State.READY, State.RUNNING) else DiagnosticStatus.WARN
        timings = {"latency_ms": self._worker.latency, "interval_ms": self._intervals}
        values = [
            KeyValue(key=f"{kind} {name}", value=str(value))
            for kind, timing in timings.items()
            for name, value in timing.milliseconds().items()
        ]
        status = DiagnosticStatus(
            level=level,
            name="robosteer: policy",
            message=f"{acting.state}: {acting.reason}",
            hardware_id=self._rig.name,
            values=values,
        )
        report = DiagnosticArray(status=[status])
        report.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(report)
        self._show_state()

    def finish(self) -> None:
        """Command rest, so that the guard need not find out by silence; then end the worker."""
        self._acting.stop("policy is ending")
        self._rest()
        self._show_state()
        self._command.wait_for_all_acked(RosDuration(seconds=0.2))
        self._worker.close()


def main() -> int:
    """Entry point of `ros2 run robosteer_policy policy`."""
    return run_node(PolicyNode)
