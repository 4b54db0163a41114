"""From a headset's socket to a dataset: server, teleop node, guard, simulated arm, recorder and converter, all real.

Pins: a frame that reaches the arm by another way than the operator's socket; motion that goes on after the hand was
lost, hidden, frozen, recentred or its browser killed; a clutch that closes again by itself while the grip is held; an
episode that was discarded and turns up in the dataset.
"""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from robosteer_rig.rig import load_rig
from robosteer_teleop.client import OperatorClient
from robosteer_teleop.control.frames import XR_TO_ROS
from robosteer_teleop.protocol import Buttons, Flags, PoseFrame

RIG = Path(__file__).parents[1] / "config/rigs/sim_panda.yaml"
PATIENT = {
    "max_age_s: 0.25": "max_age_s: 5.0",
    "max_age_s: 0.2\n": "max_age_s: 5.0\n",
    "command_timeout_s: 0.05": "command_timeout_s: 0.5",
}
"""A machine that is busy with other tests must not trip the guard: what it does then has tests of its own."""
TASK = "pick up red cube"
DEADLINE_S = 120.0
NODES = {
    "cell": ("robosteer_sim.nodes.cell", {"task": TASK}),
    "guard": (
        "robosteer_policy.nodes.guard",
        {"source": "teleop", "joint_state_s": 5.0, "silence_s": 5.0, "frozen_s": 5.0},
    ),
    "recorder": (
        "robosteer_teleop.nodes.recorder",
        {"instruction": TASK, "min_free_gib": 0.0, "min_rate_fraction": 0.0, "frozen_s": 0.0},
    ),
    "teleop": (
        "robosteer_teleop.nodes.teleop",
        {"align_first": False, "port": -1, "loopback_port": 0, "limits": "normal", "episodes": 2},
    ),
}


class Hand(threading.Thread):
    """An operator's headset: sends 72 frames a second until it is closed or frozen."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.client, self.position, self.velocity = client, np.array([0.0, 0.0, 1.2]), np.zeros(3)
        self.squeeze, self.buttons, self.flags = 0.0, Buttons(0), Flags.TRACKED | Flags.VISIBLE
        self.frozen, self.ended, self.sent = threading.Event(), threading.Event(), 0

    def run(self):
        for _ in itertools.takewhile(lambda _: not self.ended.wait(1 / 72), itertools.count()):
            if self.frozen.is_set():
                continue
            self.position = self.position + self.velocity / 72
            now = self.client.clock()
            frame = PoseFrame(
                seq=self.client.next_seq(),
                send_time=now,
                frame_time=now,
                flags=self.flags,
                buttons=self.buttons,
                position=tuple(float(x) for x in XR_TO_ROS.T @ self.position),
                squeeze=self.squeeze,
            )
            self.client.send_frame(frame)
            self.sent += 1

    def press(self, button):
        """A person's press and release: frames of both reach the server, or two presses would be one."""
        for buttons in (button, Buttons(0)):
            self.buttons, enough = buttons, self.sent + 7
            while self.sent < enough and not self.ended.is_set():
                time.sleep(0.01)

    def let_go(self):
        self.ended.set()
        self.join()


class Stack:
    """The nodes in processes of their own, and this process's view of them."""

    def __init__(self, directory):
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from sensor_msgs.msg import JointState
        from std_msgs.msg import Float64MultiArray, String

        self.out, self.connection = directory / "demos", directory / "teleop.json"
        self.rig, self.token = directory / "rig.yaml", None
        text = RIG.read_text()
        for old, new in PATIENT.items():
            assert old in text
            text = text.replace(old, new)
        self.rig.write_text(text)
        self.processes = {name: self._start(name, directory) for name in NODES}
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("test_recording", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.recorder, self.guard, self.sent, self.asked = {}, {}, np.zeros(7), np.zeros(7)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        rig, on = load_rig(self.rig), self.node.create_subscription
        on(String, "/robosteer/recorder/state", lambda m: setattr(self, "recorder", json.loads(m.data)), latched)
        on(String, "/robosteer/guard/status", lambda m: setattr(self, "guard", json.loads(m.data)), latched)
        on(Float64MultiArray, rig.arm.command_topic, lambda m: setattr(self, "sent", np.array(m.data)), 10)
        on(JointState, rig.action.command_topic, lambda m: setattr(self, "asked", np.array(m.velocity)), 10)

    def _start(self, name, directory):
        module, parameters = NODES[name]
        parameters = {"rig": self.rig, **parameters}
        parameters |= {"directory": self.out} if name == "recorder" else {}
        parameters |= {"connection_file": self.connection} if name == "teleop" else {}
        code = f"import sys; from {module} import main; sys.exit(main())"
        arguments = [word for key, value in parameters.items() for word in ("-p", f"{key}:={value}")]
        environment = {k: v for k, v in os.environ.items() if k != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
        with (directory / f"{name}.log").open("w") as log:
            return subprocess.Popen(
                [sys.executable, "-c", code, "--ros-args", *arguments], env=environment, stdout=log, stderr=log
            )

    def until(self, condition, what):
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {self.recorder} {self.guard}"
            assert all(process.poll() is None for process in self.processes.values())
            self.executor.spin_once(timeout_sec=0.02)

    def switch(self, service):
        from std_srvs.srv import SetBool

        client = self.node.create_client(SetBool, service)
        self.until(client.service_is_ready, service)
        accepted = False
        while not accepted:
            future = client.call_async(SetBool.Request(data=True))
            self.until(future.done, service)
            accepted = future.result().success

    def phase(self, hand, *wanted):
        self.until(lambda: hand.client.state.get("phase") in wanted, f"headset shows {wanted}")

    def close(self):
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(timeout=60)
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.shutdown()


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("ROS_DOMAIN_ID", str(os.getpid() % 100 + 1))
    patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    patch.setenv("ROS_LOG_DIR", str(tmp_path_factory.mktemp("ros_log")))
    stack = Stack(tmp_path_factory.mktemp("stack"))
    stack.until(stack.connection.exists, "the connection file")
    stack.switch("/guard/arm")
    yield stack
    stack.close()
    patch.undo()


@pytest.fixture
def put_on(stack):
    """Put a headset on; it is taken off at the end."""
    hands = []

    def connect(squeeze=0.0):
        client = OperatorClient.from_file(stack.connection)
        if stack.token is not None:  # the seat is free for others after 5 s only
            client = OperatorClient(json.loads(stack.connection.read_text())["url"], token=stack.token)
        client.connect()
        stack.token = client.token
        hand = Hand(client)
        hand.squeeze = squeeze
        hands.append(hand)
        hand.start()
        return hand

    yield connect
    for hand in hands:
        hand.let_go()
        hand.client.close()


def engage(stack, hand):
    """Let go and squeeze until the clutch holds; a busy machine may let the link go stale in between."""
    hand.velocity = np.zeros(3)
    shown = hand.client
    while not shown.state.get("engaged"):
        hand.squeeze = 0.0
        stack.until(lambda: not shown.state.get("need_press", True), "an open grip")
        hand.squeeze = 1.0
        stack.until(lambda: shown.state.get("engaged") or shown.state.get("need_press"), "the clutch")


def move(stack, hand, velocity):
    """Until the arm follows; a busy machine may let the link go stale meanwhile."""
    while True:
        engage(stack, hand)
        hand.velocity = np.array(velocity)
        stack.until(lambda: moves(stack) or not hand.client.state.get("engaged"), "motion")
        if hand.client.state.get("engaged"):
            return


def lose_pose(hand):
    hand.flags = Flags.VISIBLE


def hide_page(hand):
    hand.flags = Flags.TRACKED


def blur_page(hand):
    hand.client.send({"type": "visibility", "state": "visible-blurred"})


def freeze_page(hand):
    hand.frozen.set()


def recentre(hand):
    hand.client.send({"type": "reset"})


def jump(hand):
    hand.position = hand.position + np.array([0.0, 0.5, 0.0])


FAULTS = (lose_pose, hide_page, blur_page, freeze_page, jump, recentre)


def moves(stack):
    return bool(np.abs(stack.sent).max() > 0.02)


def rests(stack):
    return not stack.asked.any() and not stack.sent.any()


@pytest.mark.slow
def test_two_of_three_episodes_reach_the_dataset(stack, put_on, tmp_path):
    hand = put_on()
    stack.switch("/teleop/enable")
    for number, way in enumerate((0.1, -0.1, 0.1)):
        stack.phase(hand, "ready")
        engage(stack, hand)
        hand.press(Buttons.A)
        stack.phase(hand, "recording")
        move(stack, hand, [way, 0.0, -0.02])
        stack.until(lambda: stack.recorder["state"] == "recording" and stack.recorder["elapsed_s"] > 1.5, "an episode")
        hand.velocity = np.zeros(3)
        stack.until(lambda: np.abs(stack.asked).max() < 0.02 and not moves(stack), "the hand and the arm at rest")
        hand.press(Buttons.A)
        stack.phase(hand, "review")
        hand.press(Buttons.B if number == 1 else Buttons.A)
        stack.phase(hand, "ready", "idle")
    stack.until(lambda: (stack.recorder["kept"], stack.recorder["discarded"]) == (2, 1), "two kept, one discarded")
    stack.until(lambda: hand.client.state.get("kept") == 2, "the headset's count")
    episodes = sorted(path.name for path in stack.out.iterdir() if path.name.isdecimal())
    assert episodes == ["000000", "000002"]
    content = json.loads((stack.out / "000000/episode.json").read_text())
    assert content["teleop"]["session"]["limits"] == "normal"
    assert content["teleop"]["engaged_share"] > 0
    assert content["topics"]["/robosteer/teleop/hand"]["count"] > 0
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "robosteer_bringup.cli",
            "convert",
            "--bag",
            str(stack.out),
            "--out",
            str(tmp_path / "data"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "data/dataset.json").read_text())
    assert len(found["episodes"]) == 2


@pytest.mark.slow
def test_every_fault_stops_the_arm_and_needs_a_fresh_press(stack, put_on):
    hand = put_on()
    stack.switch("/teleop/enable")
    direction = itertools.cycle([0.1, -0.1])
    for fault in FAULTS:
        engage(stack, hand)
        move(stack, hand, [0.0, next(direction), 0.0])
        fault(hand)
        stack.until(lambda: rests(stack), f"rest after {fault.__name__}")
        hand.flags = Flags.TRACKED | Flags.VISIBLE
        hand.frozen.clear()
        hand.client.send({"type": "visibility", "state": "visible"})
        count = hand.client.next_seq()
        stack.until(lambda count=count: hand.client.next_seq() > count + 30, "a third of a second of frames")
        assert rests(stack), fault.__name__  # the grip is still squeezed, the hand still moves
        if fault is recentre:
            hand.velocity, hand.squeeze = np.zeros(3), 0.0
            hand.client.send_command("align")
    engage(stack, hand)
    move(stack, hand, [0.0, 0.1, 0.0])
    hand.let_go()
    hand.client.close()
    stack.until(lambda: rests(stack), "rest after the browser was killed")
    again = put_on(squeeze=1.0)  # still in the grip of before
    stack.until(lambda: again.client.next_seq() > 30, "a third of a second of frames")
    assert again.client.state.get("need_press") is True
    assert rests(stack)
    engage(stack, again)
    move(stack, again, [0.0, -0.1, 0.0])
