"""What stands in for hardware: a velocity controller that latches, a controller manager's parameters, an impedance arm.

Regressions pinned: after the guard's SIGKILL a controller without a timeout went on for ever; so it did when the
launcher, which ends everything once the guard is gone, ended the watchdog before it had braked; the guard called the
watchdog a rival; a limiter was believed because somebody had said so; the impedance target of a resting arm drifted.
"""

import os
import signal
import time

import numpy as np
import pytest
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger

from .graph import Probe, graph, time_to_rest
from .panda import READY, RIG
from .test_guard_node import COMMANDS, GUARD, PATIENT

WATCHDOG = "robosteer_policy.nodes.watchdog"
# A controller manager's parameters, and nothing else of it.
MANAGER = """
import rclpy
rclpy.init()
node = rclpy.create_node("controller_manager")
node.declare_parameter("enforce_command_limits", False)
rclpy.spin(node)
"""


@pytest.fixture
def world(tmp_path):
    with graph(tmp_path) as world:
        yield world


@pytest.fixture
def probe(world):
    probe = Probe(world)
    yield probe
    probe.close()


def test_the_watchdog_brakes_a_controller_that_latches_and_the_guard_needs_it(world, probe, record_property):
    guard = world.start_node(GUARD, source="teleop", require_watchdog=True, watchdog_s=5.0, **PATIENT)
    refused = "watchdog: heard nothing yet"
    probe.until(lambda: probe.call(probe.arming, SetBool.Request(data=True)).message == refused, "the refusal")
    world.start_node(WATCHDOG, rig=str(RIG))
    probe.arm()
    probe.drive_until(lambda: probe.moving(1.0 - 1e-9), "motion", [1.0] * 7, "teleop")
    before = probe.position.copy()
    killed = time.monotonic()
    os.kill(guard.pid, signal.SIGKILL)
    # The probe plays an arm that keeps the last velocity for ever.
    probe.until(lambda: not probe.moving(1e-12), "rest by the watchdog")
    probe.spin(0.3)
    rest_s, stalled_s = time_to_rest(probe.commands, killed, 0.0)
    travel = float(np.abs(probe.position - before).max())
    print(f"guard killed: rest {rest_s:.3f} s, stalled {stalled_s:.3f} s, travel {travel:.3f} rad")
    record_property("watchdog_travel_rad", round(travel, 3))
    assert rest_s <= 0.3 + stalled_s
    assert travel <= 0.15 + stalled_s
    steps = np.abs(np.diff([v[1] for t, v in probe.commands if t >= killed]))
    assert steps.max() <= 7.5 * 0.01 + 1e-9, "inside the weakest joint's acceleration"
    world.start_node(GUARD, source="teleop", require_watchdog=True, watchdog_s=5.0, **PATIENT)
    reset = probe.node.create_client(Trigger, "/watchdog/reset")
    probe.until(lambda: probe.guard().get("state") == "disarmed", "the new guard")
    tripped = "watchdog: the guard fell silent at 1.00 rad/s"
    probe.until(lambda: probe.call(probe.arming, SetBool.Request(data=True)).message == tripped, "the refusal")
    assert probe.call(reset, Trigger.Request()).success
    probe.arm()


def test_a_watchdog_that_is_ended_together_with_the_guard_brakes_first(world, probe):
    guard = world.start_node(GUARD, source="teleop", **PATIENT)
    dog = world.start_node(WATCHDOG, rig=str(RIG), timeout_s=1.0)
    probe.arm()
    probe.until(lambda: len(probe.node.get_publishers_info_by_topic(COMMANDS)) == 2, "guard and watchdog")
    probe.drive_until(lambda: probe.moving(1.0 - 1e-9), "motion", [1.0] * 7, "teleop")
    killed = time.monotonic()
    os.kill(guard.pid, signal.SIGKILL)
    dog.send_signal(signal.SIGINT)
    probe.until(lambda: dog.poll() is not None, "the watchdog's end")
    probe.spin(0.1)
    assert dog.returncode == 0
    last = [v for t, v in probe.commands if t >= killed]
    assert len(last) > 20
    assert not np.abs(last[-20:]).any(), "the controller would hold the last command for ever"
    assert np.abs(np.diff([v[1] for v in last])).max() <= 7.5 * 0.01 + 1e-9


def test_the_guard_arms_only_when_the_limiter_is_read_back(world, probe):
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import SetParameters

    proof = "/controller_manager:enforce_command_limits=true"
    world.start_node(GUARD, source="teleop", limiter_proof=proof, **PATIENT)
    silent = "rate limiter: /controller_manager does not say enforce_command_limits"
    probe.until(lambda: silent in probe.call(probe.arming, SetBool.Request(data=True)).message, "the refusal")
    world.start(MANAGER)
    wrong = "has enforce_command_limits=false, expected true"
    probe.until(lambda: wrong in probe.call(probe.arming, SetBool.Request(data=True)).message, "the value read back")
    client = probe.node.create_client(SetParameters, "/controller_manager/set_parameters")
    value = ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=True)
    probe.call(client, SetParameters.Request(parameters=[Parameter(name="enforce_command_limits", value=value)]))
    probe.arm()


class CompliantArm(Probe):
    """An arm under an impedance controller: drawn towards its target, a little slowly; it holds the last target."""

    def __init__(self, world):
        self.target, self.targets, self.leads = READY.copy(), [], []
        super().__init__(world)
        self.node.create_subscription(JointState, "/target_joint", self._aim, 10)

    def _aim(self, message):
        self.target = np.array(message.position)
        self.targets.append(self.target)
        self.leads.append(self.target[6] - self.position[6])

    def _measure(self):
        velocity = np.clip(8.0 * (self.target - self.position), -2.0, 2.0)
        self.commands.append((time.monotonic(), velocity))
        super()._measure()


def test_an_impedance_arm_is_led_by_targets_and_rests_on_the_last_one(world):
    arm = CompliantArm(world)
    world.start_node(GUARD, source="teleop", mode="joint_impedance", **PATIENT)
    arm.arm()
    start = arm.position.copy()
    arm.drive_until(lambda: arm.position[6] > start[6] + 0.3, "0.3 rad", [0.0] * 6 + [0.6], "teleop")
    lead = np.median(arm.leads[-20:])
    assert 0 < lead < 0.6 / 15 + 0.03, "about one step of the action ahead"
    assert np.abs(arm.position[:6] - start[:6]).max() < 0.02
    arm.until(lambda: arm.guard()["at_rest"], "rest")
    heard = len(arm.targets)
    arm.until(lambda: len(arm.targets) > heard + 50, "targets at rest")
    assert np.ptp(np.array(arm.targets[-40:]), axis=0).max() == 0.0
    assert arm.guard()["mode"] == "joint_impedance"
    arm.close()
