"""From the page to the arm's target: every loss stops the motion, and only a fresh press starts it again.

Pins: a clutch that closes again by itself when poses come back while the grip is still squeezed; a target that moves
after the last good pose is 100 ms old; a target that goes anywhere but stays when the clutch opens; an arm that follows
although nobody armed it.

The real page, server, steering and control core; the arm is where its target is. Server and core live twenty times
slower than the page, so that a loaded machine that draws two frames a second decides nothing.
"""

import contextlib
import dataclasses
import threading
import time

import numpy as np
import pytest

from robosteer_teleop.control.core import STALE_S, TICK_S, CoreConfig
from robosteer_teleop.control.frames import Pose
from robosteer_teleop.pose_log import LoggedCore
from robosteer_teleop.server import OperatorServer
from robosteer_teleop.steering import Steering

SLOWER = 20.0
HOME = Pose(np.array([0.45, 0.0, 0.35]), np.diag([1.0, -1.0, -1.0]))
DROP_LINK = """() => {
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function () { this.close(); WebSocket.prototype.send = send; };
}"""
# What is done to the headset, and what undoes it.
FAULTS = {
    "controller gone": ("quest.right.connected = false", "quest.right.connected = true"),
    "null pose": ("quest.nullPose = true", "quest.nullPose = false"),
    "guessed position": ("quest.emulated(true)", "quest.emulated(false)"),
    "system menu": (
        "quest.device.updateVisibilityState('visible-blurred')",
        "quest.device.updateVisibilityState('visible')",
    ),
    "headset off": ("quest.device.updateVisibilityState('hidden')", "quest.device.updateVisibilityState('visible')"),
    "page frozen": ("quest.freeze(4000)", "0"),
    "jump": ("quest.right.position.set(1.2, 1.2, -0.4)", "quest.right.position.set(0.2, 1.2, -0.4)"),
    "link lost": (DROP_LINK, "0"),
    "recentred": ("quest.device.recenter()", "0"),
}


@pytest.fixture
def server(config):
    with OperatorServer(dataclasses.replace(config, stale_s=SLOWER * STALE_S)) as running:
        yield running


def slowed(received):
    frame = dataclasses.replace(received.frame, frame_time=received.frame.frame_time / SLOWER)
    return dataclasses.replace(received, frame=frame, received_s=received.received_s / SLOWER)


class Arm:
    """Ticks the core in a thread, as the node does, and keeps what happened."""

    def __init__(self, server):
        self.server = server
        self.steering = Steering(LoggedCore(CoreConfig(yaw=0.0), None))
        self.history = []  # (time, engaged, reception of the newest frame, position)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        measured = HOME
        while not self._stop.wait(TICK_S):
            for event in self.server.poll_events():
                self.steering.event(dataclasses.replace(event, time_s=event.time_s / SLOWER))
            received, now = self.server.latest(), time.monotonic() / SLOWER
            if received is not None:
                received = slowed(received)
            self.steering.frame(received)
            target = self.steering.tick(now, measured, 1.0)
            measured = target.motion.pose
            frame_s = received.received_s if received else -np.inf
            self.history.append((now, target.engaged, frame_s, measured.position.copy()))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    @property
    def engaged(self):
        return bool(self.history) and self.history[-1][1]


@pytest.fixture
def arm(server):
    with Arm(server) as running:
        yield running


def squeeze(quest, value):
    quest.run("value => quest.right.updateButtonValue('squeeze', value)", value)
    quest.fresh(lambda r: r.frame.squeeze == value)


def press(quest, arm):
    """Let go and squeeze until the arm follows; a machine that stalls for 100 ms may take several."""

    def try_once():
        squeeze(quest, 0)
        if arm.steering.core.core.alignment is None:  # the headset was recentred
            quest.run("quest.right.updateButtonValue('thumbstick', 1)")
            quest.until(lambda: arm.steering.core.core.alignment is not None, "the alignment")
            quest.run("quest.right.updateButtonValue('thumbstick', 0)")
        squeeze(quest, 1)
        with contextlib.suppress(AssertionError):
            return quest.until(lambda: arm.engaged, patience_s=2.0)
        return False

    quest.until(try_once, "the clutch")


@pytest.mark.slow
def test_every_loss_stops_the_arm_until_a_fresh_press(quest, arm):
    squeeze(quest, 1)
    frames = quest.fresh().count + 5
    quest.fresh(lambda r: r.count > frames)
    assert not any(engaged for _, engaged, _, _ in arm.history), "nobody armed it"
    quest.server.set_armed(True)
    for fault, (injure, mend) in FAULTS.items():
        press(quest, arm)
        quest.run(injure)
        quest.until(lambda: not arm.engaged, f"the release after {fault}")
        held = len(arm.history)
        quest.run(mend)
        frames = quest.fresh(lambda r: r.frame.squeeze == 1 and r.frame.visible and r.frame.tracked).count + 10
        quest.fresh(lambda r, frames=frames: r.count > frames, "frames after the fault")
        after = arm.history[held:]
        assert not any(engaged for _, engaged, _, _ in after), f"{fault}: engaged again without a fresh press"
        drift = max(np.linalg.norm(position - after[0][3]) for *_, position in after)
        assert drift == 0.0, f"{fault}: the target moved by {drift} m"
    late = [now - frame_s for now, engaged, frame_s, _ in arm.history if engaged and now - frame_s > STALE_S]
    assert not late, "the arm followed a pose that was too old"


def test_the_arm_follows_the_hand(quest, arm):
    quest.server.set_armed(True)
    press(quest, arm)
    start = arm.history[-1][3]
    # 5 cm to the right and 5 cm up of the operator, in steps that no gate takes for a jump.
    for step in range(1, 26):
        quest.run("step => quest.right.position.set(0.2 + 0.002 * step, 1.2 + 0.002 * step, -0.4)", step)
        quest.fresh()
    quest.until(lambda: np.linalg.norm(arm.history[-1][3] - start) > 0.06, "the motion")
    moved = arm.history[-1][3] - start
    assert moved[1] < -0.03
    assert moved[2] > 0.03
    assert abs(moved[0]) < 0.01
