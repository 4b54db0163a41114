"""The policy node: cameras and joint states in, commands at the rig's rate out, inference in a thread of its own."""

from __future__ import annotations

import array
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.duration import Duration as RosDuration
from rclpy.parameter import Parameter as RosParameter
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Float64, String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from robosteer_policy.acting import Acting, State
from robosteer_policy.chunks import Action, Asynchronous, Chunk, Strategy, Synchronous
from robosteer_policy.nodes.parameters import Parameter, declare
from robosteer_policy.nodes.qos import CAMERA, LATCHED, RELIABLE
from robosteer_policy.nodes.running import StoppableNode, run_node
from robosteer_policy.timing import Timing
from robosteer_policy.worker import CheckpointSource, Worker
from robosteer_rig.align import Aligner
from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import load_rig

PARAMETERS = (
    Parameter("rig", "", "path of the rig file"),
    Parameter("checkpoint", "", "checkpoint directory"),
    Parameter("config", "", "name of a stock model config, for checkpoints without robosteer.json"),
    Parameter("instruction", "", "what to do, in words; applied at the next inference", changeable=True),
    Parameter("auto_enable", False, "start acting as soon as the model and every input are there; for simulation"),
    Parameter("execution", "asynchronous", "asynchronous (overlap) or synchronous (pause while computing)"),
    Parameter("execute_steps", 8, "actions of a chunk that are used before the next one takes over"),
    Parameter("num_steps", 10, "flow steps per inference"),
    Parameter("seed", 0, "of the sampling noise"),
)
# The present action is repeated so often between two actions: the guard notices a dead policy after
# `action.command_timeout_s`, not after one and a half actions.
REPEAT_HZ = 100.0
STRATEGIES: dict[str, Callable[[int], Strategy]] = {"asynchronous": Asynchronous, "synchronous": Synchronous}


def make_strategy(name: str, execute_steps: int) -> Callable[[], Strategy]:
    """A factory of fresh strategies.

    Raises:
        RobosteerError: for an unknown name or fewer than one step.
    """
    if name not in STRATEGIES:
        raise RobosteerError(f"execution: found {name!r}, expected one of {', '.join(STRATEGIES)}")
    if execute_steps < 1:
        raise RobosteerError(f"execute_steps: found {execute_steps}, expected at least 1")
    return lambda: STRATEGIES[name](execute_steps)


class PolicyNode(StoppableNode):
    """Wires `Acting` to topics, services and a clock."""

    def __init__(self) -> None:
        super().__init__("policy")
        values = declare(self, PARAMETERS)
        for name in ("rig", "checkpoint", "instruction"):
            if not values[name].strip():
                raise RobosteerError(f"policy: found no parameter {name}, expected one; set {name}:=...")
        self._rig = load_rig(values["rig"])
        self._checkpoint: str = values["checkpoint"]
        self._aligner = Aligner(self._rig)
        source = CheckpointSource(
            path=self._checkpoint,
            config=values["config"] or None,
            instruction=values["instruction"],
            num_steps=values["num_steps"],
            seed=values["seed"],
        )
        self._worker = Worker(source, self._rig)
        strategy = make_strategy(values["execution"], values["execute_steps"])
        self._acting = Acting(self._rig, self._aligner, self._worker, strategy, values["instruction"])
        self._auto_enable: bool = values["auto_enable"]
        self._intervals = Timing()
        self._last_tick_s: float | None = None
        self._shown: tuple[str, ...] = ()
        self._commands = 0
        self._present: Action | None = None
        self._connect()
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timers = [
            self.create_timer(1 / self._rig.action.rate_hz, self._tick, clock=steady),
            self.create_timer(1 / REPEAT_HZ, self._repeat, clock=steady),
            self.create_timer(1.0, self._report, clock=steady),
        ]
        self.add_on_set_parameters_callback(self._on_parameters)
        self._show_state()
        self._worker.start()

    def _connect(self) -> None:
        self._command = self.create_publisher(JointState, "/robosteer/policy/command", RELIABLE)
        self._gripper = self.create_publisher(Float64, "/robosteer/policy/gripper", RELIABLE)
        self._chunk = self.create_publisher(JointTrajectory, "/robosteer/policy/chunk", RELIABLE)
        self._state = self.create_publisher(String, "/robosteer/policy/state", LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", RELIABLE)
        for stream, (topic, kind) in self._rig.observation_topics().items():
            if stream not in self._aligner.streams:
                continue
            message = {"Image": Image, "CompressedImage": CompressedImage}.get(kind.rpartition("/")[2], JointState)
            qos = RELIABLE if message is JointState else CAMERA
            self.create_subscription(message, topic, self._receiver(stream), qos)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/stop", self._on_stop)

    def _receiver(self, stream: str) -> Callable[[Any], None]:
        def receive(message: Any) -> None:
            try:
                self._aligner.receive(stream, message, self._now_ns())
            except RobosteerError as error:
                self._acting.stop(str(error))

        return receive

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _tick(self) -> None:
        self._measure_interval()
        now_ns = self._now_ns()
        if self._auto_enable and self._acting.state is State.READY and not self._acting.enable(now_ns):
            self._auto_enable = False
        step = self._acting.step(now_ns)
        if step.chunk is not None:
            self._chunk.publish(self._trajectory(step.chunk))
        self._act(step.action)
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
        if self._present is not None and self._acting.state is State.RUNNING:
            self._say(self._present)

    def _say(self, action: Action) -> None:
        message = JointState(name=list(self._rig.arm.joints), velocity=_doubles(action.velocity))
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = str(self._commands)
        self._command.publish(message)

    def _trajectory(self, chunk: Chunk) -> JointTrajectory:
        points = []
        for k, velocity in enumerate(chunk.velocity):
            seconds, rest = divmod(k * chunk.period_ns, 1_000_000_000)
            start = Duration(sec=seconds, nanosec=rest)
            points.append(JointTrajectoryPoint(velocities=_doubles(velocity), time_from_start=start))
        message = JointTrajectory(joint_names=list(self._rig.arm.joints), points=points)
        message.header.stamp = Time(nanoseconds=chunk.stamp_ns).to_msg()
        message.header.frame_id = self._rig.frames.base
        return message

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
        self._acting.stop("stopped on request")
        self._rest()
        response.success, response.message = True, self._acting.reason
        self._show_state()
        return response

    def _rest(self) -> None:
        """Say at once what `Acting` wants to have said (the command of rest that ends a run)."""
        action = self._acting.last_word()
        if action is not None:
            self._act(action)

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
            "checkpoint": self._checkpoint,
            "instruction": self._acting.instruction,
            "chunks": self._acting.chunks,
            "commands": self._commands,
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
        self._diagnostics.publish(DiagnosticArray(status=[status]))
        self._show_state()

    def finish(self) -> None:
        """Command rest, so that the guard need not find out by silence; then end the worker."""
        self._acting.stop("policy is ending")
        self._rest()
        self._show_state()
        self._command.wait_for_all_acked(RosDuration(seconds=0.2))
        self._worker.close()


def _doubles(values: np.ndarray) -> array.array[float]:
    return array.array("d", np.ascontiguousarray(values, dtype=np.float64).tobytes())


def main() -> int:
    """Entry point of `ros2 run robosteer_policy policy`."""
    return run_node(PolicyNode)
