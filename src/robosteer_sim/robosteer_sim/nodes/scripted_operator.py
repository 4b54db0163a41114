"""Node `scripted_operator`: shows a task to the robot, episode after episode, through the interface of teleoperation.

It does what a person with a controller does, by the same topics and services: sets the scene up, arms the guard,
records, moves the arm with velocity commands at 50 Hz, looks at the result, and keeps or discards the episode.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence

import numpy as np
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64
from std_srvs.srv import SetBool, Trigger

from robosteer_rig.environment import Scene
from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import load_rig
from robosteer_sim.expert import Expert
from robosteer_sim.layout import EXPERT_STREAM, GRID_CELLS, check_scene, scene_random
from robosteer_sim.nodes.run import ros_process
from robosteer_sim.nodes.senses import Senses
from robosteer_sim.nodes.session import Interrupted, Session
from robosteer_sim.tasks import task_card

COMMAND_RATE_HZ = 50.0
REST_S = 0.3
"""Zeros at the end of an episode, before the recording stops."""
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
        path = node.declare_parameter("rig", "").value
        if not path:
            raise RobosteerError("rig: found no parameter, expected a rig file; add `--ros-args -p rig:=PATH`")
        self._rig = load_rig(str(path))
        self._task = task_card(str(node.declare_parameter("task", "pick up red cube").value))
        self._episodes = int(node.declare_parameter("episodes", 16).value or 0)
        self._first_seed = int(node.declare_parameter("first_seed", 0).value or 0)
        self._use_recorder = bool(node.declare_parameter("use_recorder", True).value)
        self._max_failures = int(node.declare_parameter("max_failures", 10).value or 0)
        cells = node.declare_parameter("grid_cells", Parameter.Type.INTEGER_ARRAY).value
        self._cells = [int(cell) for cell in cells] if cells else spread(self._episodes)
        if self._episodes < 1:
            raise RobosteerError(f"episodes: found {self._episodes}, expected at least 1")
        for cell in self._cells:
            check_scene(Scene(self._task.prompt, cell, self._first_seed))
        self._node = node
        self._stop = stop
        self._session = Session(node, stop)
        self._senses = Senses(node, self._rig)
        self._expert: Expert | None = None
        self._recording = False
        self._command = node.create_publisher(JointState, self._rig.action.command_topic, 10)
        self._gripper = node.create_publisher(Float64, self._rig.action.gripper_topic, 10)
        self._timer = node.create_timer(1 / COMMAND_RATE_HZ, self._act, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def run(self) -> None:
        """All episodes.

        Raises:
            RobosteerError: when a service is missing, or too many attempts fail.
            Interrupted: when the process was asked to stop.
        """
        self._session.wait_until(lambda: bool(self._senses.cell), 60.0, "topic /cell/state")
        seed, kept, failures = self._first_seed, 0, 0
        while kept < self._episodes:
            scene = Scene(self._task.prompt, self._cells[kept % len(self._cells)], seed)
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

    def _perform(self, scene: Scene) -> str | None:
        """One attempt.

        Returns:
            None when the episode was kept, else why it was discarded.
        """
        self._set_up(scene)
        if self._use_recorder:
            self._session.set_parameters("/recorder", instruction=scene.task)
            # A machine that has just started many processes may be too slow for the recorder's taste for a while.
            self._persist(Trigger, "/recorder/start", Trigger.Request())
            self._recording = True
        self._expert = Expert(self._task.target, scene_random(scene, EXPERT_STREAM))
        reason = self._watch(self._expert)
        self._expert = None
        self._pause(REST_S)  # zeros, so that the episode ends at rest
        if reason is None and not self._session_state("success"):
            reason = str(self._session_state("failure") or f"{self._task.target} was not held long enough")
        self._session.switch("/guard/arm", False)
        self._file(keep=reason is None)
        return reason

    def _set_up(self, scene: Scene) -> None:
        """A fresh scene, then the arm under the operator's command."""
        session = self._session
        session.set_parameters("/cell", task=scene.task, grid_cell=scene.grid_cell, seed=scene.seed)
        count = json.loads(session.trigger("/cell/reset"))["reset_count"]
        session.wait_until(lambda: self._session_state("reset_count") == count, 10.0, "/cell/state after the reset")
        session.wait_until(lambda: self._senses.joint_position is not None, 10.0, f"topic {self._rig.arm.state_topic}")
        self._arm()
        # The status of before the arming may still be on its way.
        session.wait_until(lambda: self._senses.guard_fault() is None, 2.0, "/robosteer/guard/status without fault")

    def _arm(self) -> None:
        """Right after a start the guard may not have heard of the arm yet."""
        self._persist(SetBool, "/guard/arm", SetBool.Request(data=True))

    def _persist(self, kind: type, service: str, request: object) -> None:
        """Press a button until it is accepted, commanding zeros meanwhile."""
        patience = time.monotonic() + PATIENCE_S
        while True:
            answer = self._session.call(kind, service, request)
            if answer.success:
                return
            if time.monotonic() > patience:
                raise RobosteerError(f"{service}: refused for {PATIENCE_S:g} s, {answer.message}")
            self._pause(0.2)

    def _pause(self, duration_s: float) -> None:
        """Spin for a while, commanding zeros."""
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
        if self._use_recorder:
            self._session.trigger("/recorder/stop")
            self._session.trigger("/recorder/keep" if keep else "/recorder/discard")
            self._recording = False

    def _act(self) -> None:
        """50 Hz: the expert's command, or zeros when there is nothing to do; nothing while blind."""
        position = self._senses.joint_position
        if position is None or not self._senses.cell:
            return
        velocity, gripper = np.zeros(len(self._rig.arm.joints)), None
        if self._expert is not None:
            velocity, gripper = self._expert.act(
                position, self._senses.gripper_position, self._senses.object_poses(), self._senses.time_s
            )
        self._send(velocity)
        if gripper is not None:
            self._gripper.publish(Float64(data=float(gripper)))

    def _send(self, velocity: Sequence[float] | np.ndarray) -> None:
        message = JointState(name=list(self._rig.arm.joints), velocity=[float(v) for v in velocity])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._command.publish(message)

    def abandon(self) -> None:
        """After an interruption: let go of the arm, and discard what was being recorded."""
        self._expert = None
        self._send(np.zeros(len(self._rig.arm.joints)))
        if not self._recording:
            return
        self._stop.clear()  # A second signal interrupts this, too.
        for name in ("/recorder/stop", "/recorder/discard"):
            self._session.call(Trigger, name, Trigger.Request(), timeout_s=1.0)

    def close(self) -> None:
        """Stop the timer and the executor."""
        self._node.destroy_timer(self._timer)
        self._session.close()


def _operate(node: Node, stop: threading.Event) -> int:
    """Exit code of a whole session."""
    operator = None
    try:
        operator = ScriptedOperator(node, stop)
        operator.run()
        return 0
    except RobosteerError as problem:
        print(f"scripted_operator: {problem}", file=sys.stderr, flush=True)
        return 1
    except Interrupted:
        print("scripted_operator: stopped before all episodes were kept", file=sys.stderr, flush=True)
        return 130
    finally:
        if operator is not None:
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
    with ros_process() as stop:
        node = Node("scripted_operator")
        try:
            return _operate(node, stop)
        finally:
            node.destroy_node()
