"""Node `cell`: the simulated Franka cell on the hardware's topics (docs/reference/topics.md), in real time."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rcl_interfaces.msg import IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import Trigger

from robosteer_rig.environment import Scene
from robosteer_rig.errors import RobosteerError
from robosteer_rig.nodes.claims import Claim, Claims
from robosteer_rig.nodes.running import StoppableNode, run_node
from robosteer_rig.parameters import required_rig
from robosteer_rig.rig import Rig, load_rig
from robosteer_sim.environment import check_rig
from robosteer_sim.impedance import ImpedanceSettings
from robosteer_sim.layout import GRID_CELLS, VARIATIONS, check_scene
from robosteer_sim.live import LiveCell, Pulse
from robosteer_sim.nodes import messages
from robosteer_sim.rendering import CellCameras
from robosteer_sim.tasks import CUBES

CONTROLLERS = ("joint_velocity", "cartesian_impedance")
TARGET_TOPIC = "/target_pose"
SCENE = ("task", "grid_cell", "seed", "variation")
"""Parameters that make a scene."""
STATE_SCHEMA = "robosteer.cell/1"
TICK_S = 0.005
CLOCK_READING_NS = 100_000
"""Two clocks read one after the other within this time are read together."""
RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
COMMANDS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT, durability=DurabilityPolicy.VOLATILE)
"""As ros2_control's velocity controllers subscribe under Fast DDS."""


class CameraTopics:
    """One camera's publishers, with the names of the ZED driver, and when its next picture is due."""

    def __init__(self, node: Node, topic: str, rate_hz: float, phase: float) -> None:
        image = topic.removesuffix("/compressed")
        self.compressed = node.create_publisher(CompressedImage, f"{image}/compressed", RELIABLE)
        self.raw = node.create_publisher(Image, image, RELIABLE)
        self.info = node.create_publisher(CameraInfo, f"{image.rpartition('/')[0]}/camera_info", RELIABLE)
        self.pulse = Pulse(rate_hz, phase)

    @property
    def watched(self) -> bool:
        """Whether anybody wants a picture; without that none is drawn."""
        return self.compressed.get_subscription_count() > 0 or self.raw.get_subscription_count() > 0


class CellNode(StoppableNode):
    """Publishes measurements, obeys commands, and sets scenes up on request."""

    def __init__(self) -> None:
        super().__init__("cell")
        self._rig = self._declare_parameters()
        rig = self._rig
        claims = Claims(self, [Claim(rig.arm.state_topic, JointState)])
        timeout_s = rig.action.command_timeout_s
        impedance = self._impedance()
        self._cell = LiveCell(self._scene({}), self._distractors(), command_timeout_s=timeout_s, impedance=impedance)
        claims.require()  # Two arms on one topic are neither: the guard would believe both.
        sizes = {name: (camera.width, camera.height) for name, camera in rig.cameras.items()}
        self._cameras = CellCameras(self._cell.physics, sizes)
        # Evenly spread over the period, so that a tick rarely has to draw more than one picture.
        self._camera_topics = {
            name: CameraTopics(self, camera.topic, camera.rate_hz, number / len(rig.cameras))
            for number, (name, camera) in enumerate(rig.cameras.items())
        }
        self._joints = self.create_publisher(JointState, rig.arm.state_topic, RELIABLE)
        self._gripper = self.create_publisher(JointState, rig.gripper.state_topic, RELIABLE)
        self._state = self.create_publisher(String, "/cell/state", RELIABLE)
        self._clock_topic = self.create_publisher(ClockMessage, "/clock", RELIABLE) if self._publish_clock else None
        self._ros_ahead_ns: int | None = None
        self._joint_pulse, self._gripper_pulse = Pulse(rig.arm.state_rate_hz), Pulse(rig.gripper.state_rate_hz)
        self._state_pulse = Pulse(10.0)
        if impedance is None:
            self.create_subscription(Float64MultiArray, rig.arm.command_topic, self._on_command, COMMANDS)
        else:
            self.create_subscription(PoseStamped, TARGET_TOPIC, self._on_target, QoSProfile(depth=1))
        self.create_subscription(Float64, rig.gripper.command_topic, self._on_gripper, RELIABLE)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.add_on_set_parameters_callback(self._on_parameters)
        self.create_timer(TICK_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.get_logger().info(f"cell ready: {self._cell.scene.task}, grid cell {self._cell.scene.grid_cell}")

    # Parameters -------------------------------------------------------------------------------------------------

    def _declare_parameters(self) -> Rig:
        def fixed(text: str) -> ParameterDescriptor:
            return ParameterDescriptor(description=text, read_only=True)

        path = required_rig(self.declare_parameter("rig", "", fixed("rig file")).value)
        self._publish_clock = bool(
            self.declare_parameter("publish_clock", False, fixed("publish /clock; stamps then start at 0")).value
        )
        text = f"distractor's choices: ['any'] other colour, ['none'], or some of {list(CUBES)}"
        self.declare_parameter("distractors", ["any"], fixed(text))
        describe = ParameterDescriptor
        self.declare_parameter("task", "pick up red cube", describe(description="instruction; applied by ~/reset"))
        cells = [IntegerRange(from_value=0, to_value=GRID_CELLS - 1, step=1)]
        text = "placement of the task's object, 5 rows x 8 columns; applied by ~/reset"
        self.declare_parameter("grid_cell", 19, describe(description=text, integer_range=cells))
        self.declare_parameter("seed", 0, describe(description="all other variation, >= 0; applied by ~/reset"))
        text = f"change of conditions, one of {list(VARIATIONS)}; applied by ~/reset"
        self.declare_parameter("variation", "", describe(description=text))
        rig = load_rig(path)
        check_rig(rig)
        return rig

    def _impedance(self) -> ImpedanceSettings | None:
        """The controller that the parameter asks for; its gains can be read back as on the real one."""
        text = f"{' or '.join(CONTROLLERS)}; the latter obeys poses on {TARGET_TOPIC} as crisp_controllers does"
        describe = ParameterDescriptor(description=text, read_only=True)
        controller = self.declare_parameter("controller", CONTROLLERS[0], describe).value
        if controller not in CONTROLLERS:
            raise RobosteerError(f"controller: found {controller!r}, expected {' or '.join(CONTROLLERS)}")
        if controller == CONTROLLERS[0]:
            return None
        settings = ImpedanceSettings()
        for name, value in settings.as_parameters().items():
            self.declare_parameter(name, value, ParameterDescriptor(description="gain", read_only=True))
        return settings

    def _distractors(self) -> tuple[str, ...] | None:
        names = tuple(self.get_parameter("distractors").value)
        if names == ("any",):
            return None
        if names == ("none",):
            return ()
        for name in names:
            if name not in CUBES:
                raise RobosteerError(f"distractors: found {name!r}, expected some of {list(CUBES)}")
        return names

    def _scene(self, changes: dict[str, Any]) -> Scene:
        """The scene that the parameters describe, with some of them changed."""
        values: dict[str, Any] = {name: self.get_parameter(name).value for name in SCENE}
        scene = Scene(**(values | {name: value for name, value in changes.items() if name in values}))
        check_scene(scene)
        return scene

    def _on_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        try:
            self._scene({parameter.name: parameter.value for parameter in parameters})
        except RobosteerError as problem:
            return SetParametersResult(successful=False, reason=str(problem))
        return SetParametersResult(successful=True)

    # Commands ---------------------------------------------------------------------------------------------------

    def _on_command(self, message: Float64MultiArray) -> None:
        self._cell.command(message.data)

    def _on_target(self, message: PoseStamped) -> None:
        writers = self.count_publishers(TARGET_TOPIC)
        if writers > 1:  # as crisp_controllers: nobody knows whom to obey
            self.get_logger().warning(f"{TARGET_TOPIC}: {writers} publishers, ignored", throttle_duration_sec=1.0)
            return
        point, turn = message.pose.position, message.pose.orientation
        self._cell.aim((point.x, point.y, point.z), (turn.x, turn.y, turn.z, turn.w))

    def _on_gripper(self, message: Float64) -> None:
        self._cell.command_gripper(message.data)

    def _on_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            self._cell.reset(self._scene({}))
            response.success = True
            response.message = json.dumps(self._describe())
        except RobosteerError as problem:
            response.success, response.message = False, str(problem)
        return response

    # Measurements -----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._compare_clocks()
        self._follow_clock()
        if self._state_pulse.due(self._cell.time_ns):
            self._state.publish(String(data=json.dumps(self._describe())))
        for name, topics in self._camera_topics.items():
            if topics.pulse.due(self._cell.time_ns):
                self._publish_camera(name, topics)
                self._follow_clock()  # Joint states must not wait for the next picture.

    def _follow_clock(self) -> None:
        for _ in range(self._cell.steps_due(time.monotonic_ns())):
            self._cell.step()
            self._publish_joints()

    def _compare_clocks(self) -> None:
        """Note how far the ROS clock is ahead of the steady one, unless something came between the two readings."""
        before = time.monotonic_ns()
        ros = self.get_clock().now().nanoseconds
        after = time.monotonic_ns()
        if self._ros_ahead_ns is None or after - before < CLOCK_READING_NS:
            self._ros_ahead_ns = ros - (before + after) // 2

    def _stamp_ns(self) -> int:
        """When the present state was: on the cell's own clock if it is published, else on the ROS clock."""
        if self._publish_clock:
            return self._cell.time_ns
        return self._cell.steady_ns + (self._ros_ahead_ns or 0)

    def _publish_joints(self) -> None:
        physics, time_ns = self._cell.physics, self._cell.time_ns
        if self._joint_pulse.due(time_ns):
            if self._clock_topic is not None:
                self._clock_topic.publish(ClockMessage(clock=messages.stamp(time_ns)))
            self._joints.publish(
                messages.joint_state(
                    self._rig.arm.joints,
                    self._stamp_ns(),
                    physics.joint_position,
                    physics.joint_velocity,
                    physics.joint_effort,
                )
            )
        if self._gripper_pulse.due(time_ns):
            gripper = self._rig.gripper
            position = [gripper.denormalise(physics.gripper_position)]
            self._gripper.publish(messages.joint_state([gripper.state_joint], self._stamp_ns(), np.array(position)))

    def _publish_camera(self, name: str, topics: CameraTopics) -> None:
        camera = self._rig.cameras[name]
        header = messages.camera_header(name, self._stamp_ns())
        topics.info.publish(messages.camera_info(header, name, camera.width, camera.height))
        if not topics.watched:
            return
        picture = self._cameras.render(name)
        if topics.compressed.get_subscription_count() > 0:
            topics.compressed.publish(messages.compressed_image(header, picture))
        if topics.raw.get_subscription_count() > 0:
            topics.raw.publish(messages.raw_image(header, picture))

    def _describe(self) -> dict[str, object]:
        """The content of /cell/state."""
        cell = self._cell
        poses = cell.physics.object_poses()
        return {
            "schema": STATE_SCHEMA,
            **dataclasses.asdict(cell.scene),
            "instruction": cell.scene.task,
            "reset_count": cell.reset_count,
            "time_since_reset_s": round(cell.physics.time_s, 3),
            "object_positions": {name: pose[:3].round(5).tolist() for name, pose in poses.items()},
            "object_orientations": {name: pose[3:].round(5).tolist() for name, pose in poses.items()},
            "success": cell.judge.success,
            "lifted": cell.judge.lifted,
            "failure": cell.judge.failure,
            "failure_detail": cell.judge.detail,
            "counters": dataclasses.asdict(cell.counters),
        }

    def finish(self) -> None:
        """Free the renderers."""
        self._cameras.close()


def main() -> int:
    """Entry point of `ros2 run robosteer_sim cell`."""
    return run_node(CellNode)
