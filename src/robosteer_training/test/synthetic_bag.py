"""Small recordings with known content, written with `rosbags`."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from robosteer_rig.rig import Rig, parse_rig

STORE = get_typestore(Stores.ROS2_KILTED)
EPOCH_NS = 1_700_000_000_000_000_000
MS = 1_000_000
_TIME = STORE.types["builtin_interfaces/msg/Time"]
_HEADER = STORE.types["std_msgs/msg/Header"]
_JOINTS = STORE.types["sensor_msgs/msg/JointState"]
_COMPRESSED = STORE.types["sensor_msgs/msg/CompressedImage"]
_IMAGE = STORE.types["sensor_msgs/msg/Image"]
FLOAT = STORE.types["std_msgs/msg/Float64"]

RIG_TEXT = """
schema: robosteer.rig/1
name: bench
arm:
  joints: [j1, j2, j3, j4, j5, j6, j7]
  position_min: [-3, -3, -3, -3, -3, -3, -3]
  position_max: [3, 3, 3, 3, 3, 3, 3]
  velocity_max: [2, 2, 2, 2, 2, 2, 2]
  acceleration_max: [10, 10, 10, 10, 10, 10, 10]
  jerk_max: [5000, 5000, 5000, 5000, 5000, 5000, 5000]
  state_topic: /joint_states
  command_topic: /joint_velocity_controller/commands
gripper:
  {state_topic: /gripper/joint_states, state_joint: knuckle, open_position: 0.0, closed_position: 0.8,
   command_topic: /gripper/command}
cameras:
  wrist: {topic: /wrist/compressed, type: sensor_msgs/msg/CompressedImage, encoding: jpeg, rate_hz: 15,
          width: 32, height: 20, crop: {x0: 6, y0: 0, size: 20}, output_size: 16}
  left: {topic: /left/image, type: sensor_msgs/msg/Image, encoding: bgra8, rate_hz: 15,
         width: 32, height: 20, crop: {x0: 6, y0: 0, size: 20}, output_size: 16}
action:
  {convention: normalised_joint_velocity, unit_rad_per_s: 3.0, rate_hz: 15,
   command_topic: /robosteer/teleop/command, gripper_topic: /robosteer/teleop/gripper}
policy_cameras: {exterior_image_1_left: left, wrist_image_left: wrist}
frames: {base: base, flange: flange, tcp: tcp}
"""


def bench_rig() -> Rig:
    return parse_rig(RIG_TEXT)


def header(stamp_ns: int):
    return _HEADER(_TIME(stamp_ns // 10**9, stamp_ns % 10**9), "frame")


def joint_state(stamp_ns, names, position=(), velocity=()):
    arrays = (np.asarray(position, dtype=np.float64), np.asarray(velocity, dtype=np.float64), np.zeros(0))
    return _JOINTS(header(stamp_ns), list(names), *arrays)


def picture(seed: int, width=32, height=20) -> np.ndarray:
    ramp = np.linspace(0, 200, width)[None, :, None] + np.linspace(0, 50, height)[:, None, None]
    return ((ramp + seed * np.array([3, 5, 7])) % 256).astype(np.uint8)


def jpeg_message(stamp_ns, pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return _COMPRESSED(header(stamp_ns), "bgra8; jpeg compressed bgr8", np.frombuffer(file.getvalue(), np.uint8))


def bgra_message(stamp_ns, pixels):
    height, width, _ = pixels.shape
    alpha = np.full((height, width, 1), 255, np.uint8)
    data = np.concatenate([pixels[:, :, ::-1], alpha], axis=2).reshape(-1)
    return _IMAGE(header(stamp_ns), height, width, "bgra8", 0, width * 4, data)


@dataclasses.dataclass
class Script:
    """What happens in a recording.

    Attributes:
        seconds: its length.
        velocity: commanded velocity of joint 1 between `start_s` and `stop_s`, rad/s.
        seed: varies the pictures.
    """

    seconds: float = 1.5
    velocity: float = 0.6
    start_s: float = 0.3
    stop_s: float = 1.2
    seed: int = 0


def messages(rig: Rig, script: Script):
    """All messages as (log time ns, topic, type, message), in log order, with unequal phases and latencies."""
    out = []
    camera_type = {name: str(camera.type) for name, camera in rig.cameras.items()}

    def add(stamp_ns, latency_ms, topic, kind, message):
        out.append((stamp_ns + latency_ms * MS, topic, kind, message))

    names = rig.arm.joints
    for i in range(int(script.seconds * 100)):
        t = EPOCH_NS + i * 10 * MS
        shuffled = [*names[3:], "other", *names[:3]]
        q = {name: 0.1 * j + 0.001 * i for j, name in enumerate(names)} | {"other": 9.0}
        values = [q[n] for n in shuffled]
        state = joint_state(t, shuffled, values, [0.5 * v for v in values])
        add(t, 1, rig.arm.state_topic, "sensor_msgs/msg/JointState", state)
    for i in range(int(script.seconds * 30)):
        t = EPOCH_NS + 3 * MS + i * 33 * MS
        state = joint_state(t, [rig.gripper.state_joint], [0.2])
        add(t, 2, rig.gripper.state_topic, "sensor_msgs/msg/JointState", state)
    for i in range(int(script.seconds * 15)):
        for phase, (name, camera) in enumerate(rig.cameras.items()):
            t = EPOCH_NS + (5 + 11 * phase) * MS + i * 66 * MS
            pixels = picture(script.seed + i + 40 * phase)
            make = jpeg_message if "Compressed" in camera_type[name] else bgra_message
            add(t, 6, camera.topic, camera_type[name], make(t, pixels))
    for i in range(int(script.seconds * 50)):
        t = EPOCH_NS + 7 * MS + i * 20 * MS
        moving = script.start_s <= i * 0.02 < script.stop_s
        velocity = [script.velocity if moving else 0.0] + [0.0] * 6
        command = joint_state(t, names, velocity=velocity)
        add(t, 1, rig.action.command_topic, "sensor_msgs/msg/JointState", command)
        add(t, 1, rig.action.gripper_topic, "std_msgs/msg/Float64", FLOAT(1.0 if i * 0.02 > 0.8 else 0.0))
    return sorted(out, key=lambda item: item[0])


def write_bag(path: Path, items, *, storage=StoragePlugin.MCAP, custom=None) -> Path:
    with Writer(path, version=8, storage_plugin=storage) as writer:
        for key, value in (custom or {}).items():
            writer.set_custom_data(key, value)
        connections = {}
        for log_ns, topic, kind, message in items:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], log_ns, STORE.serialize_cdr(message, kind))
    return path


def write_episode(
    path: Path, rig: Rig, script: Script | None = None, *, outcome="success", markers=None, **options
) -> Path:
    """An episode directory as the recorder leaves it."""
    write_bag(path, messages(rig, script or Script()), **options)
    content = {
        "schema": "robosteer.episode/1",
        "instruction": "pick up red cube",
        "outcome": outcome,
        "rig": {"digest": rig.digest(), "yaml": rig.to_yaml()},
        **({"markers": markers} if markers is not None else {}),
    }
    (path / "episode.json").write_text(json.dumps(content))
    return path


def changed(path, change):
    """An episode whose messages went through `change(log_ns, topic, kind, message) -> item | None`."""
    items = [item for item in (change(*item) for item in messages(bench_rig(), Script())) if item is not None]
    write_bag(path, items)
    label = {"schema": "robosteer.episode/1", "instruction": "x", "outcome": "success"}
    (path / "episode.json").write_text(json.dumps(label))
    return path
