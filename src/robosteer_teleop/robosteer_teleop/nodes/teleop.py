"""The node `teleop`: the operator's page and socket, the control core, the arm's targets, the recorder's commands."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from robosteer_rig.guard_status import TOPIC as GUARD_TOPIC
from robosteer_rig.guard_status import GuardStatus
from robosteer_rig.kinematics import tool_transform
from robosteer_rig.limits import JointLimits
from robosteer_rig.nodes.running import StoppableNode, run_node
from robosteer_rig.rig import load_rig
from robosteer_teleop.arm_state import ArmState
from robosteer_teleop.control.arm_model import ArmModel
from robosteer_teleop.control.core import TICK_S, Target
from robosteer_teleop.control.frames import Pose
from robosteer_teleop.control.joint_velocity import IkSettings, JointMonitor, JointVelocityOutput, monitor
from robosteer_teleop.episodes import Command, State
from robosteer_teleop.hud import RecorderCues, compose
from robosteer_teleop.nodes.controller_probe import ControllerProbe, require_target_topic
from robosteer_teleop.nodes.panes import CameraPanes
from robosteer_teleop.nodes.recorder_link import LATCHED, RecorderLink
from robosteer_teleop.nodes.teleop_parameters import TeleopParameters
from robosteer_teleop.nodes.teleop_topics import TeleopTopics
from robosteer_teleop.output import CARTESIAN
from robosteer_teleop.pose_log import LoggedCore
from robosteer_teleop.server import FrameTap, OperatorServer, access_lines
from robosteer_teleop.steering import Steering
from robosteer_teleop.teleop_session import describe_session, describe_status

MAX_TICKS_AT_ONCE = 4
STATUS_PERIOD_S = 0.05
HUD_PERIOD_S = 0.1
SECOND_S = 1.0
GONE_S = 30.0
"""An operator who is away for so long ends the recording, into review."""


class TeleopNode(StoppableNode):
    """Glues the parts together; every decision is made in one of them."""

    def __init__(self) -> None:
        """Read the parameters, serve the page, start ticking.

        Raises:
            RobosteerError: for a wrong parameter, rig file or port.
        """
        super().__init__("teleop")
        self._settings = TeleopParameters(self)
        self._rig = load_rig(self._settings.rig)
        config = self._settings.core_config(self._rig)
        self._model = ArmModel(tool_transform(self._rig.frames))
        self._limits = JointLimits.of(self._rig.arm)
        self._ik = JointVelocityOutput(self._model, self._limits, IkSettings())
        self._steering = Steering(LoggedCore(config, self._settings.pose_log))
        self._every_frame = FrameTap()
        self._server = OperatorServer(self._settings.server_config(), self._every_frame.put)
        self._cartesian = self._settings.output == CARTESIAN
        self._topics = TeleopTopics(self, self._rig, self._settings)
        self._probe = ControllerProbe(self, self._settings.controller) if self._cartesian else None
        self._recorder = RecorderLink(self, self._refused)
        self._cues = RecorderCues()
        self._panes = CameraPanes(self, self._rig, self._settings.panes, self._server.publish_image)
        self._arm = ArmState(self._rig.arm)
        self._q: np.ndarray | None = None
        self._monitor = JointMonitor(1.0, 1.0, 1.0)
        self._target: Target | None = None
        self._measured: Pose | None = None
        self._guard = GuardStatus("teleop")
        self._session: dict[str, Any] = {}
        self._next_s = time.monotonic()
        self._ticks = 0
        self._was_engaged = False
        self._server.start()
        for line in access_lines(self._server.access):
            self.get_logger().info(line)
        self._connect()

    def _connect(self) -> None:
        self.create_subscription(JointState, self._rig.arm.state_topic, self._on_joints, 10)
        self.create_subscription(String, GUARD_TOPIC, self._on_guard, LATCHED)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/release_operator", self._on_release_operator)
        self.create_service(Trigger, "~/abort", self._on_abort)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(TICK_S, self._tick, clock=steady)
        self.create_timer(STATUS_PERIOD_S, self._publish_status, clock=steady)
        self.create_timer(HUD_PERIOD_S, self._show, clock=steady)
        self.create_timer(SECOND_S, self._every_second, clock=steady)

    # What comes in ------------------------------------------------------------------------------------------------

    def _on_joints(self, message: JointState) -> None:
        self._arm.hear(message, time.monotonic(), self.get_clock().now().nanoseconds)

    def _on_guard(self, message: String) -> None:
        before = self._guard.state
        self._guard.hear(message.data, time.monotonic())
        if self._guard.state == "fault" and before != "fault" and self._recorder.state is State.RECORDING:
            self._recorder.send(Command.ABORT)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.message = self._why_not_enable() if request.data else ""
        response.success = not response.message
        if response.success:
            self._server.set_armed(request.data)
        self.get_logger().info(response.message or ("enabled" if request.data else "disabled"))
        return response

    def _why_not_enable(self) -> str:
        if self._probe is None:
            return ""
        self._probe.poll()
        return self._probe.refusal or require_target_topic(self, self._settings.target_topic)

    def _on_release_operator(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._server.release_operator()
        response.success, response.message = True, "the seat is free; the new code is on the console"
        return response

    def _on_abort(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._steering.core.fault("abort")
        if self._recorder.state in (State.RECORDING, State.COUNTDOWN):
            self._recorder.send(Command.ABORT)
        response.success = True
        return response

    # 200 Hz -------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = time.monotonic()
        self._look(now)
        # The core's tick is a fixed step: late timers are caught up with, long stalls are not.
        due = int((now - self._next_s) / TICK_S) + 1
        if due > MAX_TICKS_AT_ONCE:
            self._next_s, due = now, 1
        for _ in range(max(due, 0)):
            self._next_s += TICK_S
            self._advance(now)

    def _look(self, now: float) -> None:
        """Take what the link has, and the arm's pose."""
        steering = self._steering
        steering.state = self._recorder.state
        steering.label = str(self._recorder.status.get("label", "success"))
        for event in self._server.poll_events():
            steering.event(event)
            self._topics.event(event)
        passed = self._every_frame.drain()  # before the newest is read, so that none of them is newer
        steering.frames(passed, self._server.latest())
        for received in passed:
            self._topics.hand(received, steering.core.core)
        self._q, self._measured = self._arm.position(now), None
        if self._q is not None:
            self._model.update(self._q)
            self._monitor = monitor(self._model, self._limits, self._q)
            self._measured = self._model.pose
        if steering.core.core.engaged and (reason := self._blocked(now)):
            steering.core.fault(reason)

    def _blocked(self, now: float) -> str:
        """Why the arm would not follow; "" when it would."""
        if self._cartesian:
            return "controller" if self._probe is not None and self._probe.refusal else ""
        return "guard" if self._guard.trouble(now) else ""

    def _advance(self, now: float) -> None:
        target = self._steering.tick(now, self._measured, self._monitor.slow)
        self._target = target
        self._ticks += 1
        moves = target.engaged and target.motion is not None and self._q is not None
        if target.motion is not None and (target.engaged or self._was_engaged):
            self._topics.target_pose(target.motion.pose)  # the last one holds: the controller knows no time-out
        self._was_engaged = target.engaged
        if self._ticks % 2 == 0:
            velocity = np.zeros(len(self._rig.arm.joints))
            if moves and target.motion is not None and self._q is not None:
                velocity = self._ik.velocity(self._q, target.motion)
            self._topics.command(velocity, target.gripper if target.engaged else None)
        if self._ticks % 4 == 0:
            self._topics.poses(target, self._measured)
        for command in self._steering.commands:
            self._recorder.send(command)
        for cue in self._steering.cues:
            self._server.send_haptic(cue)
        self._steering.commands.clear()
        self._steering.cues.clear()

    # Slower -------------------------------------------------------------------------------------------------------

    def _publish_status(self) -> None:
        if self._target is not None:
            status = describe_status(self._steering, self._target, self._measured, self._monitor)
            self._topics.status(status)

    def _show(self) -> None:
        if self._target is None:
            return
        core = self._steering.core.core
        recorder = self._recorder.status
        shown = compose(core, self._target, self._measured, recorder, self._rig, self._settings.episodes)
        notice = self._steering.notice or str(recorder.get("message", ""))
        if not self._cartesian:
            notice = self._guard.trouble(time.monotonic()) or notice
        self._server.publish_state({**shown, "notice": notice[:200], "notice_level": "warn" if notice else "info"})
        for cue in self._cues.update(recorder):
            self._server.send_haptic(cue)

    def _every_second(self) -> None:
        if self._probe is not None:
            self._probe.poll()
        self._topics.every_second(time.monotonic())
        if self._steering.core.trouble:
            self.get_logger().warning(self._steering.core.trouble, once=True)
        link = self._server.link_state()
        parameters = self._probe.parameters if self._probe is not None else {}
        session = describe_session(self._steering, self._settings.described(), link, parameters)
        if session != self._session:
            self._session = session
            self._topics.session(session)
        gone_s = self._steering.operator_gone_s
        if gone_s is not None and time.monotonic() - gone_s > GONE_S and self._recorder.state is State.RECORDING:
            self._recorder.send(Command.ABORT)

    def _refused(self, reason: str) -> None:
        self._steering.notice = reason
        self._steering.cues.append("refuse")
        self.get_logger().warning(reason)

    def finish(self) -> None:
        """Zeros, then close the door."""
        for _ in range(10):
            self._topics.command(np.zeros(len(self._rig.arm.joints)), None)
            time.sleep(0.01)
        self._server.stop()
        self._steering.core.close()


def main() -> int:
    """Run the node."""
    return run_node(TeleopNode)
