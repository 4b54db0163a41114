"""The whole graph for fault injection: simulated cell, guard, the real policy node with a light model and cameras."""

import dataclasses
import json
import signal
import socket
import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, String
from std_srvs.srv import SetBool

from robosteer_rig.rig import load_rig

from .fault_sources import CAMERA, CLOCK, POLICY, SERVER, SHORT_LEASE, STAND_IN, STRANGER
from .graph import DEADLINE_S, Probe, unscheduled
from .panda import RIG

CELL, GUARD, NODE = (f"robosteer_{name}" for name in ("sim.nodes.cell", "policy.nodes.guard", "policy.nodes.policy"))
# How fast joint 1 swings, and what counts as rest (the settling of a simulated servo).
SPEED, STILL = 1.0, 0.03


def free_port():
    """A TCP port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def listens(port):
    """Whether somebody accepts connections there."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


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
    """Starts what is missing, moves the arm, and measures how it comes to rest.

    Args:
        world: the graph.
        folder: for files.
        sim_time: let the graph's time be what the process `clock` says.

    Attributes:
        source: who commands: the node `policy` with its light model, the same with `synchronous` execution, a
            `client` of a policy server, or a `stand-in`.
        records: (monotonic time in s, content) of every record of an inference.
    """

    def __init__(self, world, folder, *, sim_time=False):
        self.world, self.probe = world, Probe(world, plays_arm=False)
        self.cell_rig, self.rig = write_rigs(folder)
        self.lease = folder / "lease.xml"
        self.lease.write_text(SHORT_LEASE)
        self.said, self.diagnoses, self.processes, self.records = [], {}, {}, []
        self.source, self.sim_time, self.port = "policy", sim_time, free_port()
        node = self.probe.node
        node.create_subscription(JointState, "/robosteer/policy/command", self._hear, 100)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnose, 20)
        node.create_subscription(String, "/robosteer/policy/chunk_record", self._note, 20)
        self.jump = node.create_publisher(Float64, "/jump", 10)
        self.enabling = node.create_client(SetBool, "/policy/enable")
        self.instruction = node.create_publisher(String, "/policy/instruction", 10)
        self.prepare()

    def _hear(self, message):
        self.said.append((time.monotonic(), np.array(message.velocity)))

    def _note(self, message):
        self.records.append((time.monotonic(), json.loads(message.data)))

    def _diagnose(self, message):
        for status in message.status:
            self.diagnoses[status.name] = status.message

    def prepare(self):
        """Start every process that is not running."""
        time_of = {"use_sim_time": self.sim_time}
        guard = {"rig": self.rig, "source": "policy", "silence_s": 0.2, **time_of}
        policy = {"rig": self.rig, "instruction": "swing", "execute_steps": 1, **time_of}
        names = ["left", "wrist"]
        camera = {"names": names, "topics": [f"/light/{name}/image/compressed" for name in names], **time_of}
        one_by_one = {"checkpoint": "light", "execution": "synchronous", "execute_steps": 10}
        server = {"server": f"ws://127.0.0.1:{self.port}"}
        sources = {
            "policy": lambda: self.world.start(POLICY, {**policy, "checkpoint": "light"}),
            "synchronous": lambda: self.world.start(POLICY, {**policy, **one_by_one}),
            "client": lambda: self.world.start_node(NODE, **policy, **server),
            "stand-in": lambda: self.world.start(STAND_IN, time_of, FASTDDS_DEFAULT_PROFILES_FILE=str(self.lease)),
        }
        starts = {
            "cell": lambda: self.world.start_node(CELL, rig=self.cell_rig, distractors=["none"], **time_of),
            "guard": lambda: self.world.start_node(GUARD, **guard),
            "camera": lambda: self.world.start(CAMERA, camera),
            **({"stranger": lambda: self.world.start(STRANGER)} if self.source == "policy" else {}),
            **({"clock": lambda: self.world.start(CLOCK)} if self.sim_time else {}),
            **({"server": self._serve} if self.source == "client" else {}),
            "policy": sources[self.source],
        }
        for name, start in starts.items():
            if name not in self.processes or self.processes[name].poll() is not None:
                self.processes[name] = start()
                self.probe.status.pop(f"{name}/status", None)

    def _serve(self):
        process = self.world.start(SERVER, words=[str(self.port)])
        self.probe.until(lambda: listens(self.port), "the policy server")
        return process

    def command_by(self, source):
        """Let somebody else be the policy."""
        if source != self.source:
            # An entry of a killed process would stay in the graph for its lease.
            self.signal("policy", signal.SIGTERM)
            self.source = source

    def acting(self):
        """The policy's newest state."""
        return self.probe.status.get("policy/state", {})

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
        if number in (signal.SIGKILL, signal.SIGTERM):
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
        streams = ([t for t, *_ in stream] for stream in (samples, self.probe.commands, self.said))
        stalls = sum(unscheduled(times, since, end, 0.005) for times in streams)
        path = [q for t, q, _ in self.probe.states if t >= since]
        travel = float(np.abs(np.array(path) - path[0]).max()) if measured and path else 0.0
        return end - since, travel, stalls

    def accepted(self):
        """Whether each inference so far was executed."""
        return [record["accepted"] for _, record in self.records]

    def close(self):
        self.probe.close()
