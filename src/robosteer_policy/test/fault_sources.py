"""Programs that take part in fault injection, each run in a process of its own."""

# A model that swings joint 1 at 1 rad/s.
SWING = """
import time
import numpy as np

class Swing:
    sign = 1.0
    def infer(self, observation):
        if abs(observation["observation/joint_position"][0]) > 0.7:
            self.sign = -np.sign(observation["observation/joint_position"][0])
        actions = np.zeros((10, 8))
        actions[:, 0] = self.sign / 3.0
        return {"actions": actions}
"""
# The policy node as it is, with this model, which obeys the instruction "fault <kind>".
POLICY = f"""
{SWING}
import robosteer_policy.nodes.policy as module
from robosteer_policy.worker import Worker

class Light(Swing):
    fingerprint = ""
    def origin(self):
        return dict(checkpoint="light")
    def load(self, rig):
        return self
    def actions(self, observation, request, *, steered, executed=True):
        actions = self.infer(observation)["actions"]
        if request.instruction == "fault nan":
            actions[3, 2] = np.nan
        if request.instruction == "fault shape":
            actions = actions[:, :7]
        if request.instruction == "fault stall":
            time.sleep(2.0)
        return actions

class Network(Worker):
    # Results as a bad network delivers them: doubled, an old one after a new one, or a second too late.
    old, waiting = None, []
    def take(self):
        result, now = super().take(), time.monotonic()
        if result is not None:
            fault = result.request.instruction
            again = result if fault == "fault duplicate" else self.old if fault == "fault reorder" else None
            self.waiting.append((now + (fault == "fault late"), result))
            if again is not None:
                self.waiting.append((now, again))
            self.old = result
        return self.waiting.pop(0)[1] if self.waiting and self.waiting[0][0] <= now else None

module.make_source = lambda values, presets: Light()
module.Worker = Network
raise SystemExit(module.main())
"""
# One camera: noisy pictures at 30 Hz; the parameter `mode` makes it freeze or show another camera's frame.
CAMERA = """
import io, sys
import numpy as np, rclpy
from PIL import Image
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
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
node.create_timer(1 / 30, show, clock=Clock(clock_type=ClockType.STEADY_TIME))
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
# Takes the policy's place and sends commands of its own; whatever the guard thinks of them, it goes on. What must not
# reach the arm moves joint 2. It obeys the instruction "fault <kind>".
STAND_IN = """
import array, signal, time, rclpy
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool

class StandIn(Node):
    def __init__(self, context, speaking):
        super().__init__("policy", context=context)
        self.speaking, self.fault, self.sign, self.held = speaking, "", 1.0, []
        self.command = self.create_publisher(JointState, "/robosteer/policy/command", 10)
        self.create_subscription(JointState, "/joint_states", self.look, 10)
        self.create_subscription(String, "~/instruction", self.obey, 10)
        self.create_service(SetBool, "~/enable", self.enable)
        self.create_timer(0.01, self.talk, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def look(self, message):
        if "panda_joint1" in message.name:
            position = message.position[message.name.index("panda_joint1")]
            self.sign = -1.0 if position > 0.7 else 1.0 if position < -0.7 else self.sign

    def obey(self, message):
        self.fault = message.data.removeprefix("fault ")

    def enable(self, request, response):
        self.speaking = response.success = True
        return response

    def make(self, age_s=0.0, wrong=0.0, stamp=None):
        message = JointState(name=[f"panda_joint{i}" for i in range(1, 8)])
        message.velocity = array.array("d", [self.sign, wrong, 0.0, 0.0, 0.0, 0.0, 0.0])
        message.header.stamp = stamp or (self.get_clock().now() - Duration(seconds=age_s)).to_msg()
        return message

    def talk(self):
        age_s = {"late": 0.1, "ahead": -10.0, "behind": 10.0}.get(self.fault, 0.0)
        messages = [self.make(age_s)]
        if self.fault == "duplicate":
            messages.append(self.make(wrong=0.5, stamp=messages[0].header.stamp))
        if self.fault == "reorder":
            messages.append(self.make(0.02, wrong=0.5))
        self.held += messages
        if self.fault != "burst" or len(self.held) >= 50:
            for message in self.held if self.speaking else ():
                self.command.publish(message)
            self.held = []

ended = []
signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
speaking = False
while True:
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node, executor = StandIn(context, speaking), SingleThreadedExecutor(context=context)
    executor.add_node(node)
    while node.fault != "leave" and not ended:
        executor.spin_once(timeout_sec=0.1)
    # The participant leaves the graph; the process lives, and comes back by itself as somebody new.
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)
    if ended:
        break
    time.sleep(1.5)
    speaking = True
"""
# A participant that others believe dead after a second of silence; Fast DDS's own lease is 20 s.
SHORT_LEASE = """<?xml version="1.0" encoding="UTF-8"?>
<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles">
  <participant profile_name="short_lease" is_default_profile="true"><rtps><builtin><discovery_config>
    <leaseDuration><sec>1</sec></leaseDuration>
    <leaseAnnouncement><sec>0</sec><nanosec>250000000</nanosec></leaseAnnouncement>
  </discovery_config></builtin></rtps></participant>
</profiles>
"""
# The policy server, as it is, with the light model.
SERVER = f"""
{SWING}
import asyncio, sys
from robosteer_model.layouts import DROID
from robosteer_model.serving.server import PolicyServer
asyncio.run(PolicyServer(Swing(), DROID, port=int(sys.argv[1])).run())
"""
# The ROS time of a graph, which jumps by what it is told.
CLOCK = """
import time, rclpy
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Float64
rclpy.init()
node = rclpy.create_node("clock")
publisher = node.create_publisher(Clock, "/clock", 10)
ahead_ns = 10**12
def jump(message):
    global ahead_ns
    ahead_ns += int(message.data * 1e9)
node.create_subscription(Float64, "/jump", jump, 10)
def tell():
    publisher.publish(Clock(clock=Time(nanoseconds=time.monotonic_ns() + ahead_ns).to_msg()))
node.create_timer(0.004, tell)
rclpy.spin(node)
"""
