"""The whole graph for fault injection: simulated cell, guard, the real policy node with a light model and cameras."""

import dataclasses
import itertools
import json
import signal
import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool

from robosteer_rig.rig import load_rig

from .graph import DEADLINE_S, Probe
from .panda import RIG

CELL, GUARD = "robosteer_sim.nodes.cell", "robosteer_policy.nodes.guard"
# How fast joint 1 swings, and what counts as rest (the settling of a simulated servo).
SPEED, STILL = 1.0, 0.03
# The policy node as it is, with a model that swings joint 1 and obeys the instruction "fault <kind>".
POLICY = """
import time
import numpy as np
import robosteer_policy.nodes.policy as module
from robosteer_policy.worker import Worker

class Light:
    fingerprint = ""
    def origin(self):
        return {"checkpoint": "light"}
    def load(self, rig):
        return self
    sign = 1.0
    def actions(self, observation, request, *, steered, executed=True):
        if abs(observation["observation/joint_position"][0]) > 0.7:
            self.sign = -np.sign(observation["observation/joint_position"][0])
        actions = np.zeros((10, 8))
        actions[:, 0] = self.sign / 3.0
        if request.instruction == "fault nan":
            actions[3, 2] = np.nan
        if request.instruction == "fault shape":
            actions = actions[:, :7]
        if request.instruction == "fault stall":
            time.sleep(2.0)
        return actions

class Network(Worker):
    # Results as a bad network delivers them: doubled, or an old one after a new one.
    old, waiting = None, []
    def take(self):
        result = super().take()
        if result is not None:
            again = {"fault duplicate": result, "fault reorder": self.old}.get(result.request.instruction)
            self.waiting = [*self.waiting, result, *([] if again is None else [again])]
            self.old = result
        return self.waiting.pop(0) if self.waiting else None

module.make_source = lambda values, presets: Light()
module.Worker = Network
raise SystemExit(module.main())
"""
# One camera: noisy pictures at 30 Hz; the parameter `mode` makes it freeze or show another camera's frame.
CAMERA = """
import io, sys
import numpy as np, rclpy
from PIL import Image
from sensor_msgs.msg import CompressedImage
rclpy.init()
node = rclpy.create_node("camera")
topics = node.declare_parameter("topics", [""]).value
names = node.declare_parameter("names", [""]).value
node.declare_parameter("mode", "good")
publishers = [node.create_publisher(CompressedImage, topic, 10) for topic in topics]
pictures, count = [], 0
for seed in range(8):
    out = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 255, (180, 320, 3), dtype=np.uint8)
    Image.fromarray(noise).save(out, "JPEG", quality=40)
    pictures.append(out.getvalue())
def show():
    global count
    mode = node.get_parameter("mode").value
    count += mode != "frozen"
    shown = names[::-1] if mode == "swapped" else names
    for publisher, name in zip(publishers, shown):
        message = CompressedImage(format="jpeg", data=pictures[count % 8])
        message.header.stamp = node.get_clock().now().to_msg()
        message.header.frame_id = name + "_left_camera_frame_optical"
        publisher.publish(message)
node.create_timer(1 / 30, show)
rclpy.spin(node)
"""
# Somebody else's program: sends thousands of commands a second when it gets SIGUSR1.
STRANGER = """
import array, signal, time, rclpy
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
from sensor_msgs.msg import JointState
rclpy.init()
node = rclpy.create_node("stranger")
publisher = node.create_publisher(JointState, "/robosteer/policy/command", 10)
message = JointState(name=[f"panda_joint{i}" for i in range(1, 8)], velocity=array.array("d", [2.0] * 7))
signal.sigwait({signal.SIGUSR1})
while True:
    for _ in range(10):
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)
    time.sleep(0.005)
"""


def write_rigs(folder):
    """Rig files of the cell and of the others: the cell's own cameras stay unwatched, limits are those of hardware."""
    rig = load_rig(RIG)
    arm = dataclasses.replace(rig.arm, max_age_s=0.1)
    cell = folder / "cell.yaml"
    cell.write_text(dataclasses.replace(rig, arm=arm).to_yaml())
    cameras = {
        name: dataclasses.replace(camera, topic=f"/light/{name}/image/compressed", max_age_s=0.08)
        for name, camera in rig.cameras.items()
    }
    gripper = dataclasses.replace(rig.gripper, max_age_s=1.0)
    others = folder / "others.yaml"
    others.write_text(dataclasses.replace(rig, arm=arm, gripper=gripper, cameras=cameras).to_yaml())
    return str(cell), str(others)


class FaultWorld:
    """Starts what is missing, moves the arm, and measures how it comes to rest."""

    def __init__(self, world, folder):
        self.world, self.probe = world, Probe(world, plays_arm=False)
        self.cell_rig, self.rig = write_rigs(folder)
        self.said, self.diagnoses, self.processes, self.records = [], {}, {}, []
        node = self.probe.node
        node.create_subscription(JointState, "/robosteer/policy/command", self._hear, 100)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnose, 20)
        node.create_subscription(String, "/robosteer/policy/chunk_record", self.records.append, 20)
        self.enabling = node.create_client(SetBool, "/policy/enable")
        self.instruction = node.create_publisher(String, "/policy/instruction", 10)
        self.prepare()

    def _hear(self, message):
        self.said.append((time.monotonic(), np.array(message.velocity)))

    def _diagnose(self, message):
        for status in message.status:
            self.diagnoses[status.name] = status.message

    def prepare(self):
        """Start every process that is not running."""
        guard = {"rig": self.rig, "source": "policy", "silence_s": 0.2}
        policy = {"rig": self.rig, "checkpoint": "light", "instruction": "swing", "execute_steps": 1}
        names = ["left", "wrist"]
        camera = {"names": names, "topics": [f"/light/{name}/image/compressed" for name in names]}
        starts = {
            "cell": lambda: self.world.start_node(CELL, rig=self.cell_rig, distractors=["none"]),
            "guard": lambda: self.world.start_node(GUARD, **guard),
            "policy": lambda: self.world.start(POLICY, policy),
            "camera": lambda: self.world.start(CAMERA, camera),
            "stranger": lambda: self.world.start(STRANGER),
        }
        for name, start in starts.items():
            if name not in self.processes or self.processes[name].poll() is not None:
                self.processes[name] = start()
                self.probe.status.pop(f"{name}/status", None)

    def begin(self):
        """Arm and enable, as often as it takes, until the measured arm moves at full speed."""
        self.prepare()
        end = time.monotonic() + DEADLINE_S
        while not self.speed() > 0.95 * SPEED:
            assert time.monotonic() < end, f"no motion\n{self.reason()}\n{self.world.output()}"
            for client in (self.probe.arming, self.enabling):
                self.ask(client)
            self.wait(2.0, lambda: self.speed() > 0.95 * SPEED)

    def ask(self, client):
        """Call a service; the server may just have been killed, and discovery believes in it for a while."""
        if client.service_is_ready():
            future = client.call_async(SetBool.Request(data=True))
            self.wait(1.0, future.done)
            client.remove_pending_request(future)

    def wait(self, seconds, condition=lambda: False):
        """Listen until a condition holds, or for some time."""
        end = time.monotonic() + seconds
        self.probe.until(lambda: condition() or time.monotonic() > end, "time to pass")

    def speed(self):
        """Of the measured arm, rad/s; 0 when nothing fresh is known."""
        states = self.probe.states
        return float(np.abs(states[-1][2]).max()) if states and time.monotonic() - states[-1][0] < 0.1 else 0.0

    def commanded(self):
        return float(np.abs(self.probe.commands[-1][1]).max()) if self.probe.commands else 0.0

    def tell(self, text):
        self.instruction.publish(String(data=text))

    def signal(self, name, number):
        self.processes[name].send_signal(number)
        if number == signal.SIGKILL:
            # Listening meanwhile: samples are timed when they arrive.
            self.probe.until(lambda: self.processes[name].poll() is not None, f"the end of {name}")

    def reason(self):
        """Why things stand still, from wherever it is said; on diagnostics, as people see it."""
        return " | ".join(f"{name}: {text}" for name, text in sorted(self.diagnoses.items()))

    def rest(self, since, *, measured=True):
        """Time to rest and travel since a moment; and for how long somebody was not scheduled meanwhile.

        Args:
            since: monotonic, s.
            measured: of the measured arm; else of what it was commanded (when nobody measures any more).
        """
        samples = [(t, v) for t, _, v in self.probe.states] if measured else self.probe.commands
        later = [(t, float(np.abs(v).max())) for t, v in samples if t >= since]
        moving = [t for t, speed in later if speed > STILL]
        end = moving[-1] if moving else since
        stalls = sum(self._gaps(stream, since, end) for stream in (samples, self.probe.commands, self.said))
        path = [q for t, q, _ in self.probe.states if t >= since]
        travel = float(np.abs(np.array(path) - path[0]).max()) if measured and path else 0.0
        return end - since, travel, stalls

    def _gaps(self, stream, since, end):
        times = [since, *(t for t, *_ in stream if since <= t <= end)]
        return sum(max(b - a - 0.015, 0.0) for a, b in itertools.pairwise(times))

    def accepted(self):
        """Whether each inference so far was executed."""
        return [json.loads(message.data)["accepted"] for message in self.records]

    def close(self):
        self.probe.close()
