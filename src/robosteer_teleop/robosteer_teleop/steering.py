"""Between the operator's link and the control core: frames and events in, commands and cues out. No ROS, no clock."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.buttons import ButtonReader, HandAction, label_command
from robosteer_teleop.control.clutch import RELEASE_SQUEEZE
from robosteer_teleop.control.core import Target
from robosteer_teleop.control.frames import Pose
from robosteer_teleop.control.presets import MAX_SCALE, MIN_SCALE, Scaling
from robosteer_teleop.control.rotations import matrix_from_quaternion, quaternion_from_matrix
from robosteer_teleop.episodes import Command, State
from robosteer_teleop.pose_log import LoggedCore
from robosteer_teleop.server.link import LinkEvent, LinkEventKind, ReceivedFrame

LIMITER_CUE_PERIOD_S = 0.2  # 5 Hz
SCALES = (0.2, 0.4, 0.7, 1.0, 1.5)
"""What the thumbstick steps through."""
_LOUD = ("box", "leash", "joint", "jump")  # the speed limit alone is felt in the arm


class Steering:
    """One operator's link. Single-threaded.

    Attributes:
        core: with its log.
        commands: for the recorder, oldest first; whoever executes them empties the list.
        cues: names of haptic cues, likewise.
        notice: one line for the operator about the hand.
        operator: whether an operator is connected.
        operator_gone_s: when the operator was lost; None while there is one or none has come yet.
        state: of the recorder, as last heard; decides what a button means.
        label: of the episode under review.
    """

    def __init__(self, core: LoggedCore) -> None:
        """Start without an operator.

        Args:
            core: the control core.
        """
        self.core = core
        self.commands: list[Command] = []
        self.cues: list[str] = []
        self.notice = ""
        self.operator = False
        self.operator_gone_s: float | None = None
        self.state = State.IDLE
        self.label = "success"
        self._buttons = ButtonReader()
        self._pressed: set[str] = set()
        self._ray = np.eye(3)
        self._count = -1
        self._connected_s = -math.inf
        self._frame: ReceivedFrame | None = None
        self._engaged = False
        self._limiter_cue_s = 0.0

    @property
    def pose_age_s(self) -> float | None:
        """Age of the newest pose when it arrived, s; None before the first estimate."""
        return self._frame.pose_age_s if self._frame is not None else None

    def event(self, event: LinkEvent) -> None:
        """Take one event of the link."""
        kind = event.kind
        if kind is LinkEventKind.RESET:
            self.core.recentred()
            self.notice = "recentred: point along the robot's x axis and press the stick"
        elif event.fault:
            self.core.fault(str(kind))
        if kind is LinkEventKind.OPERATOR_CONNECTED:
            self.operator, self.operator_gone_s = True, None
            self._buttons, self._pressed = ButtonReader(), set()
            self._connected_s = event.time_s
            self.core.connect()
        elif kind is LinkEventKind.OPERATOR_DISCONNECTED:
            self.operator, self.operator_gone_s = False, event.time_s
        elif kind is LinkEventKind.SESSION_STARTED:
            self._ray = matrix_from_quaternion(event.detail.get("ray_in_grip") or (0.0, 0.0, 0.0, 1.0))
        elif kind in (LinkEventKind.ARMED, LinkEventKind.DISARMED):
            self.core.enable(kind is LinkEventKind.ARMED)
        elif kind in (LinkEventKind.BUTTON_PRESSED, LinkEventKind.BUTTON_RELEASED):
            # By events, not by the newest frame: a busy machine skips frames, and a short press with them.
            change = self._pressed.add if kind is LinkEventKind.BUTTON_PRESSED else self._pressed.discard
            change(str(event.detail["button"]))
            self._read_buttons(event.time_s)
        elif kind is LinkEventKind.COMMAND:
            self._command(str(event.detail.get("name")), event.detail.get("argument"))

    def frames(self, passed: Sequence[ReceivedFrame], newest: ReceivedFrame | None) -> None:
        """Steer by the newest frame; the others, which a busy machine passes over, are logged only.

        Args:
            passed: every frame since the last call, oldest first.
            newest: in the server's slot, at least as new as those; None while there is none.
        """
        used = (self._count, newest.count if newest is not None else -1)
        for received in passed:
            if received.count not in used:
                self.core.skip(received.raw, received.received_s)
                self._notice_release(received, newest)
        self.frame(newest)

    def _notice_release(self, passed: ReceivedFrame, newest: ReceivedFrame | None) -> None:
        """Whoever let go and squeezed again meanwhile has moved the hand and not the arm."""
        again = newest is not None and newest.frame.squeeze >= RELEASE_SQUEEZE
        if again and passed.frame.squeeze < RELEASE_SQUEEZE and self.core.core.engaged:
            self.core.fault("overlooked release")

    def frame(self, received: ReceivedFrame | None) -> None:
        """Take the newest frame from the server's slot; one that was seen already changes nothing."""
        if received is None or received.count == self._count:
            return
        self._count, self._frame = received.count, received
        if received.received_s < self._connected_s:
            # Of the connection before: by its number all frames of the new one would be late.
            self.core.skip(received.raw, received.received_s)
            return
        self.core.frame(received.frame, received.raw, received.received_s)
        self._read_buttons(received.received_s)

    def _read_buttons(self, now_s: float) -> None:
        found = self._buttons.update(
            now_s,
            a="A" in self._pressed,
            b="B" in self._pressed,
            stick_click="STICK" in self._pressed,
            stick=self._frame.frame.stick if self._frame is not None else (0.0, 0.0),
            state=self.state,
            label=self.label,
        )
        for action in found:
            if isinstance(action, Command):
                self.commands.append(action)
            else:
                self._hand(action)

    def tick(self, now_s: float, measured: Pose | None, slow: float) -> Target:
        """Advance the core and feel its changes."""
        reason_before = self.core.core.fault_reason
        target = self.core.tick(now_s, measured, slow)
        if target.engaged and not self._engaged:
            self.cues.append("engage")
        elif self._engaged and not target.engaged:
            fault = self.core.core.fault_reason
            self.cues.append("tracking_lost" if fault else "release")
            self.notice = f"released: {fault}; let go and squeeze again" if fault else ""
        elif target.engaged:
            self._feel_limits(target, now_s)
        if self.core.core.fault_reason != reason_before and not self.core.core.fault_reason:
            self.notice = ""
        self._engaged = target.engaged
        return target

    def _feel_limits(self, target: Target, now_s: float) -> None:
        loud = any(name in _LOUD for name in target.flags.names())
        if loud and now_s - self._limiter_cue_s >= LIMITER_CUE_PERIOD_S:
            self._limiter_cue_s = now_s
            self.cues.append("limiter")

    def _hand(self, action: HandAction) -> None:
        scale = self.core.core.scaling.translation
        if action is HandAction.ALIGN:
            self._align()
        elif action is HandAction.SCALE_UP:
            self._scale(min((s for s in SCALES if s > scale), default=scale))
        else:
            self._scale(max((s for s in SCALES if s < scale), default=scale))

    def _align(self) -> None:
        if self._frame is None or not self._frame.frame.tracked:
            self._refuse("alignment: found no pose of the controller, expected one; hold it in view")
            return
        ray = matrix_from_quaternion(self._frame.frame.orientation) @ self._ray
        try:
            self.core.align(quaternion_from_matrix(ray))
        except RobosteerError as error:
            self._refuse(str(error))
            return
        self.notice = "aligned"
        self.cues.append("engage")

    def _scale(self, scale: float) -> None:
        try:
            self.core.set_scaling(Scaling(scale, scale))
        except RobosteerError as error:
            self._refuse(str(error))
            return
        self.notice = f"scale {scale:g}"

    def _refuse(self, reason: str) -> None:
        self.notice = reason
        self.cues.append("refuse")

    def _command(self, name: str, argument: object) -> None:
        """A command that came as a message; the server knows the names, the arguments are checked here."""
        if name == "align":
            self._align()
        elif name == "scale":
            good = isinstance(argument, int | float) and MIN_SCALE <= argument <= MAX_SCALE
            if good:
                self._scale(float(argument))  # type: ignore[arg-type]
            else:
                self._refuse(f"scale: found {argument!r}, expected {MIN_SCALE} ... {MAX_SCALE}")
        elif name == "relabel":
            if f"label_{argument}" in list(Command):
                self.commands.append(label_command(str(argument)))
            else:
                self._refuse(f"relabel: found {argument!r}, expected success, failure or practice")
        elif name in list(Command):
            self.commands.append(Command(name))
        else:
            self._refuse(f"command: found {name!r}, expected one of {', '.join(Command)}")
