"""Node `scripted_operator`: shows a task to the robot, episode after episode, with a headset's controller in its hand.

It does what a person does: sets the scene up, arms the guard, enables teleoperation, squeezes the grip, presses A to
record, moves its hand, looks at the result, and keeps (A) or discards (B) the episode. Its frames travel through the
operator's socket like those of any headset.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool

from robosteer_rig.environment import Scene
from robosteer_rig.errors import RobosteerError
from robosteer_rig.headset import connect_headset
from robosteer_rig.parameters import required, required_rig
from robosteer_rig.rig import load_rig
from robosteer_sim.experts import make_expert
from robosteer_sim.layout import GRID_CELLS, check_scene
from robosteer_sim.motion import Expert, Measurement
from robosteer_sim.nodes.senses import Senses
from robosteer_sim.nodes.session import Interrupted, Session, run_session
from robosteer_sim.operator_hand import OperatorHand
from robosteer_sim.tasks import task_card

FRAME_RATE_HZ = 72.0
"""Of a Quest."""
REST_S = 0.3
"""Stillness at the end of an episode, before the recording stops."""
ANSWER_S = 3.0
"""A button that has had no effect after this time is pressed again."""
PATIENCE_S = 30.0
SLOWEST = 20.0
"""How much slower than real time the cell may become before the operator gives up."""


def spread(count: int) -> list[int]:
    """Grid cells for `count` episodes, evenly over the grid."""
    return [int(cell) for cell in np.linspace(0, GRID_CELLS - 1, min(max(count, 2), GRID_CELLS)).round()]


class ScriptedOperator:
    """Performs the episodes that the node's parameters ask for."""

    def __init__(self, node: Node, stop: threading.Event) -> None:
        """Declare parameters, connect.

        Args:
            node: a fresh node.
            stop: set when the process is asked to stop.

        Raises:
            RobosteerError: for a parameter that makes no sense.
        """
        self._rig = load_rig(required_rig(node.declare_parameter("rig", "").value))
        self._task = task_card(str(node.declare_parameter("task", "pick up red cube").value))
        self._variation = str(node.declare_parameter("variation", "").value)
        self._episodes = int(node.declare_parameter("episodes", 16).value or 0)
        self._first_seed = int(node.declare_parameter("first_seed", 0).value or 0)
        self._use_recorder = bool(node.declare_parameter("use_recorder", True).value)
        self._max_failures = int(node.declare_parameter("max_failures", 10).value or 0)
        cells = node.declare_parameter("grid_cells", Parameter.Type.INTEGER_ARRAY).value
        self._cells = [int(cell) for cell in cells] if cells else spread(self._episodes)
        if self._episodes < 1:
            raise RobosteerError(f"episodes: found {self._episodes}, expected at least 1")
        for cell in self._cells:
            check_scene(Scene(self._task.prompt, cell, self._first_seed, self._variation))
        connection = node.declare_parameter("connection_file", "").value
        self._connection = Path(required("connection_file", connection, "that of the node teleop")).expanduser()
        self._node = node
        self._stop = stop
        self._session = Session(node, stop)
        self._senses = Senses(node, self._rig)
        self._expert: Expert | None = None
        self._hand: OperatorHand | None = None
        self._moved_at = time.monotonic()
        self._timer = node.create_timer(1 / FRAME_RATE_HZ, self._act, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def run(self) -> None:
        """All episodes.

        Raises:
            RobosteerError: when a service is missing, or too many attempts fail.
            Interrupted: when the process was asked to stop.
        """
        self._session.wait_until(lambda: bool(self._senses.cell), 60.0, "topic /cell/state")
        self._session.wait_until(self._connection.is_file, 60.0, f"connection_file {self._connection}")
        self._hand = OperatorHand(connect_headset("socket", self._connection))
        seed, kept, failures = self._first_seed, 0, 0
        while kept < self._episodes:
            scene = Scene(self._task.prompt, self._cells[kept % len(self._cells)], seed, self._variation)
            seed += 1
            started = time.monotonic()
            reason = self._perform(scene)
            place = f"{time.monotonic() - started:.1f} s, cell {scene.grid_cell}"
            if reason is None:
                kept += 1
                print(f"episode {kept}/{self._episodes} kept ({place})", flush=True)
                continue
            failures += 1
            print(f"episode {kept + 1}/{self._episodes} discarded ({place}): {reason}", flush=True)
            if failures > self._max_failures:
                raise RobosteerError(
                    f"episodes: found {failures} failed attempts and {kept} kept, expected at most "
                    f"{self._max_failures} failures; last reason: {reason}"
                )

    @property
    def _grip(self) -> OperatorHand:
        if self._hand is None:
            raise RuntimeError("the headset is not on")
        return self._hand

    @property
    def _phase(self) -> str:
        """What the headset says about the recording."""
        return str(self._grip.state.get("phase", "")) if self._hand is not None else ""

    def _perform(self, scene: Scene) -> str | None:
        """One attempt.

        Returns:
            None when the episode was kept, else why it was discarded.
        """
        self._set_up(scene)
        reason = self._squeeze() or self._show(scene)
        self._grip.gripping = False
        self._session.switch("/guard/arm", False)
        return reason

    def _squeeze(self) -> str | None:
        """Take the grip until the arm follows; a reason when it does not."""
        self._grip.gripping = True
        until = time.monotonic() + PATIENCE_S
        self._session.wait_until(
            lambda: self._grip.engaged or time.monotonic() > until, PATIENCE_S + 5.0, "the headset's state"
        )
        if self._grip.engaged:
            return None
        notice = self._grip.state.get("notice") or "no notice"
        return f"the clutch stayed open for {PATIENCE_S:g} s ({notice}); a machine that is too busy sends frames late"

    def _show(self, scene: Scene) -> str | None:
        """Record the expert's work; a reason when the episode was discarded."""
        if self._use_recorder:
            self._press("A", ("recording",))
        self._expert = make_expert(scene)
        reason = self._watch(self._expert)
        self._expert = None
        self._pause(REST_S)  # so that the episode ends at rest
        if reason is None and not self._session_state("success"):
            reason = str(self._session_state("failure_detail"))
        self._file(keep=reason is None)
        return reason

    def _set_up(self, scene: Scene) -> None:
        """A fresh scene, then the arm under the operator's hand."""
        session = self._session
        session.set_parameters("/cell", **dataclasses.asdict(scene))
        if self._use_recorder:
            session.set_parameters("/recorder", instruction=scene.task)
        count = json.loads(session.trigger("/cell/reset"))["reset_count"]
        session.wait_until(lambda: self._session_state("reset_count") == count, 10.0, "/cell/state after the reset")
        session.wait_until(lambda: self._senses.joint_position is not None, 10.0, f"topic {self._rig.arm.state_topic}")
        self._grip.close_gripper(0.0)
        self._persist("/guard/arm")
        self._persist("/teleop/enable")
        # The status of before the arming may still be on its way.
        session.wait_until(lambda: self._senses.guard_fault() is None, 2.0, "/robosteer/guard/status without fault")

    def _persist(self, service: str) -> None:
        """Switch something on until it is accepted: right after a start a node may not have heard of the arm yet."""
        patience = time.monotonic() + PATIENCE_S
        while True:
            answer = self._session.call(SetBool, service, SetBool.Request(data=True))
            if answer.success:
                return
            if time.monotonic() > patience:
                raise RobosteerError(f"{service}: refused for {PATIENCE_S:g} s, {answer.message}")
            self._pause(0.2)

    def _press(self, button: str, phases: tuple[str, ...]) -> None:
        """Press a button until the headset shows one of the phases."""
        started = time.monotonic()
        while self._phase not in phases:
            self._grip.press(button)
            self._until_phase(phases)
            if self._phase not in phases and time.monotonic() - started > PATIENCE_S:
                found, notice = self._phase, self._grip.state.get("notice", "")
                wanted = " or ".join(phases)
                raise RobosteerError(f"button {button}: found phase {found} in the end, expected {wanted}; {notice}")

    def _until_phase(self, phases: tuple[str, ...]) -> None:
        """Wait for what a button should cause; not for ever."""
        until = time.monotonic() + ANSWER_S
        self._session.wait_until(
            lambda: self._phase in phases or time.monotonic() > until, ANSWER_S + 5.0, "the headset's state"
        )

    def _pause(self, duration_s: float) -> None:
        """Spin for a while, hand at rest."""
        until = time.monotonic() + duration_s
        self._session.wait_until(lambda: time.monotonic() > until, duration_s + 5.0, "a pause")

    def _watch(self, expert: Expert) -> str | None:
        """Let the expert act until it is done; a reason when it must give up."""
        senses = self._senses
        give_up_at = senses.time_s + self._task.time_limit_s
        self._session.wait_until(
            lambda: expert.done or senses.guard_fault() is not None or senses.time_s > give_up_at,
            SLOWEST * self._task.time_limit_s,
            "end of the episode",
        )
        fault = senses.guard_fault()
        if fault is not None:
            return f"guard fault: {fault}"
        return None if expert.done else f"not done within {self._task.time_limit_s:g} s"

    def _session_state(self, key: str) -> object:
        return self._senses.cell.get(key)

    def _file(self, *, keep: bool) -> None:
        """Stop recording, and keep or discard the episode."""
        if not self._use_recorder:
            return
        self._press("A", ("review",))  # a fault of the guard has ended the recording already
        self._press("A" if keep else "B", ("ready", "idle"))

    def _act(self) -> None:
        """At the headset's rate: the expert's motion, or a hand at rest."""
        moment = time.monotonic()
        period, self._moved_at = moment - self._moved_at, moment
        if self._hand is None:
            return
        twist, position = np.zeros(6), self._senses.joint_position
        if self._expert is not None and position is not None and self._hand.engaged:
            senses = self._senses
            now = Measurement(position, senses.gripper_position, senses.object_poses(), senses.time_s)
            twist, gripper = self._expert.steer(now)
            self._hand.close_gripper(gripper)
        self._hand.move(twist, min(period, 0.05))

    def abandon(self) -> None:
        """After an interruption: let go of the arm, and discard what was being recorded."""
        self._expert = None
        if self._hand is None:
            return
        self._hand.gripping = False
        if self._use_recorder and self._phase in ("recording", "review"):
            self._stop.clear()  # A second signal interrupts this, too.
            self._press("A", ("review",))
            self._press("B", ("ready", "idle"))

    def close(self) -> None:
        """Take the headset off; stop the timer and the executor."""
        self._node.destroy_timer(self._timer)
        if self._hand is not None:
            self._hand.take_off()
        self._session.close()


def _perform(node: Node, stop: threading.Event) -> None:
    """A whole session."""
    operator = ScriptedOperator(node, stop)
    try:
        operator.run()
    finally:
        _let_go(operator)


def _let_go(operator: ScriptedOperator) -> None:
    try:
        operator.abandon()
    except (RobosteerError, Interrupted) as problem:
        print(f"scripted_operator: the recorder was left recording ({problem})", file=sys.stderr, flush=True)
    finally:
        operator.close()


def main() -> int:
    """Entry point of `ros2 run robosteer_sim scripted_operator`."""
    return run_session("scripted_operator", _perform, "stopped before all episodes were kept")
