"""The cell under a clock, without ROS.

Pins: an arm that keeps its last velocity when commands stop; a bad command that is obeyed or that crashes; a reset that
remembers commands or turns time back; a stall that is caught up with a burst; drifting rates.
"""

import numpy as np
import pytest

from robosteer_rig.environment import Scene
from robosteer_rig.errors import RobosteerError
from robosteer_sim.live import COMMAND_TIMEOUT_S, STALLED_STEPS, STEP_NS, LiveCell, Pulse

SCENE = Scene("pick up red cube", 19, 0)
MS = 1_000_000


class Clocked:
    """A cell with a clock that is turned by hand."""

    def __init__(self):
        self.now_ns = 5_000_000_000
        self.cell = LiveCell(SCENE)
        self.cell.steps_due(self.now_ns)

    def run(self, milliseconds, command=None, tick_ms=5):
        for _ in range(round(milliseconds / tick_ms)):
            self.now_ns += tick_ms * MS
            if command is not None:
                self.cell.command(command)
            for _ in range(self.cell.steps_due(self.now_ns)):
                self.cell.step()

    @property
    def speed(self):
        return np.abs(self.cell.physics.joint_velocity).max()


@pytest.fixture
def clocked():
    return Clocked()


def test_time_follows_the_clock(clocked):
    clocked.run(1000, tick_ms=7)
    assert 0 <= clocked.now_ns - clocked.cell.steady_ns < STEP_NS
    assert clocked.cell.counters.stalls == 0


def test_the_arm_comes_to_rest_when_commands_stop(clocked):
    clocked.run(500, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    assert clocked.speed > 0.9
    clocked.run(40)
    assert clocked.speed > 0.9  # the timeout is not over
    clocked.run(COMMAND_TIMEOUT_S * 1e3 + 150)
    assert clocked.speed < 0.05
    assert clocked.cell.counters.command_timeouts == 1
    clocked.run(1000)
    assert clocked.cell.counters.command_timeouts == 1


@pytest.mark.parametrize("bad", [[0.1] * 6, [0.1] * 8, [], [float("nan")] * 7, [0.1] * 6 + [float("inf")]])
def test_a_bad_command_is_counted_and_brings_the_arm_to_rest(clocked, bad):
    clocked.run(400, [0.0] * 6 + [1.0])
    clocked.cell.command(bad)
    clocked.run(150)
    assert clocked.speed < 0.1
    assert clocked.cell.counters.rejected_commands == 1
    clocked.run(200, [0.0] * 6 + [1.0])
    assert clocked.speed > 0.9


def test_the_gripper_keeps_its_last_good_command(clocked):
    clocked.cell.command_gripper(1.0)
    clocked.cell.command_gripper(float("nan"))
    clocked.run(800)
    assert clocked.cell.physics.gripper_position > 0.95
    assert clocked.cell.counters.rejected_commands == 1
    clocked.cell.command_gripper(-3.0)
    clocked.run(800)
    assert clocked.cell.physics.gripper_position < 0.05


def test_a_reset_forgets_commands_and_does_not_turn_time_back(clocked):
    clocked.cell.command_gripper(1.0)
    clocked.run(300, [0.5] * 7)
    before = clocked.cell.time_ns
    clocked.cell.reset(Scene("pick up blue cube", 3, 9))
    clocked.run(50)
    assert clocked.cell.time_ns > before
    assert clocked.speed < 1e-3
    assert clocked.cell.physics.gripper_position < 0.02
    assert clocked.cell.reset_count == 2
    assert clocked.cell.physics.object_names[0] == "blue cube"


def test_an_impossible_scene_changes_nothing(clocked):
    with pytest.raises(RobosteerError, match="grid_cell: found 99"):
        clocked.cell.reset(Scene("pick up red cube", 99, 0))
    assert clocked.cell.scene == SCENE
    assert clocked.cell.reset_count == 1


def test_after_a_stall_the_cell_runs_in_slow_motion(clocked):
    clocked.run(100)
    before = clocked.cell.time_ns
    clocked.now_ns += 2_000 * MS
    assert clocked.cell.steps_due(clocked.now_ns) == STALLED_STEPS
    clocked.run(100)
    assert clocked.cell.time_ns - before <= 125 * MS
    assert clocked.cell.counters.stalls == 1
    assert clocked.cell.counters.stalled_s == pytest.approx(1.98, abs=0.01)


@pytest.mark.parametrize(("rate", "phase"), [(100.0, 0.0), (30.0, 0.0), (15.0, 1 / 3), (10.0, 0.9)])
def test_a_pulse_keeps_its_rate_on_an_uneven_clock(rate, phase):
    pulse = Pulse(rate, phase)
    fired = [t for t in range(0, 10_000 * MS, STEP_NS) if pulse.due(t)]
    assert abs(len(fired) - 10 * rate) <= 1
    assert fired[0] == pytest.approx(phase / rate * 1e9, abs=STEP_NS)
    assert np.abs(np.diff(fired) - 1e9 / rate).max() <= STEP_NS
