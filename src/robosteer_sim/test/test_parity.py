"""The same commands give the same trajectory in this process and through ROS topics.

Pins: a command or measurement that changes on its way (order of joints, units, gripper's range, rounding); a cell that
applies a command for another time than the one asked for; another scene for the same seed. Tolerance: 1e-9 rad and m,
since the messages carry the same doubles. Only the cell's steady clock is turned by hand, so that the machine's load
has no say; the node, its timer and the topics are the real ones.
"""

import math
import types

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray

from robosteer_rig.environment import Scene
from robosteer_sim.cell_model import TIME_STEP_S
from robosteer_sim.live import STEP_NS
from robosteer_sim.nodes import cell as cell_module

from .graph import DEADLINE_S, DOMAIN, ENVIRONMENT

SCENE = Scene("place green cube in red bowl", 13, 5, "lighting")
TOLERANCE = 1e-9


def steps_after(period, rate_hz):
    """Simulation steps from the reset to the end of a control period, as in the in-process environment."""
    return math.ceil(period / rate_hz / TIME_STEP_S - 0.5)


class CellOnTopics:
    """A cell node and its user, in one executor, on a clock that stands until it is turned."""

    def __init__(self, rig, rig_path, monkeypatch):
        for name, value in ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        self.now_ns = 1_000_000_000
        monkeypatch.setattr(cell_module, "time", types.SimpleNamespace(monotonic_ns=lambda: self.now_ns))
        values = {"rig": rig_path, "task": SCENE.task, "grid_cell": SCENE.grid_cell, "seed": SCENE.seed}
        values |= {"variation": SCENE.variation, "publish_clock": True}
        arguments = [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]
        rclpy.init(args=["--ros-args", *arguments], domain_id=DOMAIN)
        self.node, self.user = cell_module.CellNode(), rclpy.create_node("user")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.executor.add_node(self.user)
        best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.velocity = self.user.create_publisher(Float64MultiArray, rig.arm.command_topic, best_effort)
        self.gripper = self.user.create_publisher(Float64, rig.gripper.command_topic, 10)
        self.measured = []
        self.user.create_subscription(JointState, rig.arm.state_topic, self.measured.append, 10)
        self.live = self.node._cell
        self.spin(lambda: self.velocity.get_subscription_count() and self.gripper.get_subscription_count())
        self.spin(lambda: self.live._origin_ns is not None)

    def spin(self, condition):
        for _ in range(round(DEADLINE_S / 0.02)):
            if condition():
                return
            self.executor.spin_once(timeout_sec=0.02)
        raise AssertionError("the cell did not answer")

    def command(self, action):
        """Publish until the cell has it: the subscription is best effort."""
        self.velocity.publish(Float64MultiArray(data=action[:7].tolist()))
        self.gripper.publish(Float64(data=float(action[7])))
        live = self.live
        self.spin(
            lambda: (
                live._command_ns == live.time_ns
                and list(live._command) == list(action[:7])
                and live._gripper == action[7]
            )
        )

    def turn_clock(self, steps):
        """Let the cell reach a number of steps since its start."""
        self.now_ns += (steps - self.live.time_ns // STEP_NS) * STEP_NS
        self.spin(lambda: self.live.time_ns == steps * STEP_NS)

    def close(self):
        self.executor.shutdown()
        self.node.finish()
        self.node.destroy_node()
        self.user.destroy_node()
        rclpy.shutdown()


def test_a_demonstration_replayed_through_topics_is_the_same_trajectory(environment, rig, rig_path):
    pairs = list(environment.demonstrate(SCENE))
    assert environment.success
    last = environment.object_positions()
    with pytest.MonkeyPatch.context() as monkeypatch:
        cell = CellOnTopics(rig, rig_path, monkeypatch)
        try:
            for number, (frame, action) in enumerate(pairs):
                physics = cell.live.physics
                assert np.abs(physics.joint_position - frame.joint_position).max() < TOLERANCE, number
                assert np.abs(physics.joint_velocity - frame.joint_velocity).max() < TOLERANCE
                assert abs(physics.gripper_position - frame.gripper_position) < TOLERANCE
                done = cell.live.time_ns // STEP_NS
                for steps in (done + 8, steps_after(number + 1, rig.action.rate_hz)):  # commands hold for 50 ms
                    cell.command(action)
                    cell.turn_clock(steps)
            assert cell.live.judge.success
            assert cell.live.counters.command_timeouts == cell.live.counters.stalls == 0
            for name, pose in cell.live.physics.object_poses().items():
                assert np.abs(pose[:3] - last[name]).max() < TOLERANCE
            count = len(cell.measured)
            cell.turn_clock(cell.live.time_ns // STEP_NS + 5)
            cell.spin(lambda: len(cell.measured) > count)
            # What is published is what was simulated, at most one publishing period ago.
            position = np.array(cell.measured[-1].position)
            assert list(cell.measured[-1].name) == list(rig.arm.joints)
            assert np.abs(position - cell.live.physics.joint_position).max() < 0.02
        finally:
            cell.close()
