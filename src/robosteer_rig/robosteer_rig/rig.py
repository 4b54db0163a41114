"""The rig file: what the robot is, in one validated object that travels with every bag, dataset and checkpoint."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import yaml

from robosteer_rig.errors import RobosteerError
from robosteer_rig.fields import FieldError, build, plain, require, show
from robosteer_rig.parts import (
    FLOAT64_TYPE,
    JOINT_STATE_TYPE,
    Action,
    Arm,
    Camera,
    Crop,
    Frames,
    Gripper,
    VelocityEnvelope,
    Workspace,
)

__all__ = [
    "ARM_COMMAND",
    "GRIPPER_COMMAND",
    "GRIPPER_STATE",
    "JOINT_STATE",
    "SCHEMA",
    "Action",
    "Arm",
    "Camera",
    "Crop",
    "Frames",
    "Gripper",
    "Rig",
    "VelocityEnvelope",
    "Workspace",
    "differences",
    "load_rig",
    "parse_rig",
    "recording_differences",
]

SCHEMA = "robosteer.rig/1"
MAX_FILE_BYTES = 1 << 20  # Rig files have a few kB; anything larger is another file.

JOINT_STATE = "joint_state"
GRIPPER_STATE = "gripper_state"
ARM_COMMAND = "arm_command"
GRIPPER_COMMAND = "gripper_command"
RESERVED_NAMES = (JOINT_STATE, GRIPPER_STATE, ARM_COMMAND, GRIPPER_COMMAND)

# How recorded data is *used*, not what it is: an episode may be converted with another value of these.
_USE_FIELDS = re.compile(
    r"name|policy_cameras(\..*)?|workspace(\..*)?|cameras\.[^.]*\.(crop\..*|output_size|max_age_s)|(arm|gripper)\.max_age_s|action\.rate_hz"
)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclasses.dataclass(frozen=True)
class Rig:
    """The whole contract.

    Attributes:
        schema: version of this file format.
        name: of the set-up.
        arm: joints, limits, topics.
        gripper: polarity and topics.
        cameras: by name.
        action: convention, rate and source of the recorded actions.
        policy_cameras: image key of the policy ("exterior_image_1_left", DROID's names) -> camera name.
        frames: coordinate frames and tool.
        workspace: where the arm may go; None leaves only the joint limits.
    """

    schema: str
    name: str
    arm: Arm
    gripper: Gripper
    cameras: dict[str, Camera]
    action: Action
    policy_cameras: dict[str, str]
    frames: Frames
    workspace: Workspace | None = None

    def __post_init__(self) -> None:
        require(self.schema == SCHEMA, "schema", self.schema, SCHEMA, "convert the file to this version")
        require(_NAME.fullmatch(self.name) is not None, "name", self.name, "lower-case letters, digits and _")
        require(bool(self.cameras), "cameras", self.cameras, "at least one camera")
        for name in self.cameras:
            good = _NAME.fullmatch(name) is not None and name not in RESERVED_NAMES
            require(
                good, "cameras", name, f"a name of lower-case letters, digits and _, not {', '.join(RESERVED_NAMES)}"
            )
        require(bool(self.policy_cameras), "policy_cameras", self.policy_cameras, "at least one image key")
        for key, camera in self.policy_cameras.items():
            require(camera in self.cameras, f"policy_cameras.{key}", camera, f"one of {', '.join(self.cameras)}")
        self._require_distinct_sources()

    def _require_distinct_sources(self) -> None:
        seen: dict[str, str] = {}
        for stream, (topic, _) in self.topics().items():
            message = f"a topic of its own, not that of {seen.get(topic)}"
            require(topic not in seen, _path_of(stream), topic, message)
            seen[topic] = stream

    def observation_topics(self) -> dict[str, tuple[str, str]]:
        """Stream name -> (topic, message type) of everything that makes a frame."""
        streams = {name: (camera.topic, str(camera.type)) for name, camera in self.cameras.items()}
        streams[JOINT_STATE] = (self.arm.state_topic, JOINT_STATE_TYPE)
        streams[GRIPPER_STATE] = (self.gripper.state_topic, JOINT_STATE_TYPE)
        return streams

    def action_topics(self) -> dict[str, tuple[str, str]]:
        """Stream name -> (topic, message type) of the operator's commands."""
        return {
            ARM_COMMAND: (self.action.command_topic, str(self.action.command_type)),
            GRIPPER_COMMAND: (self.action.gripper_topic, FLOAT64_TYPE),
        }

    def topics(self) -> dict[str, tuple[str, str]]:
        """Every stream that an episode needs."""
        return self.observation_topics() | self.action_topics()

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `parse_rig` of its YAML is the exact inverse."""
        return plain(self)

    def to_yaml(self) -> str:
        """The rig file's text in canonical form (comments are not kept)."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def digest(self) -> str:
        """Sha256 of the canonical JSON; equal rigs have equal digests however their files are written."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


def _path_of(stream: str) -> str:
    fixed = {
        JOINT_STATE: "arm.state_topic",
        GRIPPER_STATE: "gripper.state_topic",
        ARM_COMMAND: "action.command_topic",
        GRIPPER_COMMAND: "action.gripper_topic",
    }
    return fixed.get(stream, f"cameras.{stream}.topic")


class _Loader(yaml.SafeLoader):
    """YAML without repeated keys: of two `wrist:` entries the second would silently win."""


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for i, key in enumerate(keys):
        if key in keys[:i]:
            raise FieldError(str(key), "found twice, expected once; remove one")
    return {key: loader.construct_object(value, deep=True) for key, (_, value) in zip(keys, node.value, strict=True)}


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def parse_rig(text: str, *, source: str = "rig") -> Rig:
    """Read a rig from YAML text.

    Args:
        text: content of a rig file.
        source: how errors name the text.

    Raises:
        RobosteerError: "<source>: <field>: found X, expected Y".
    """
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
        return build(Rig, data)
    except FieldError as error:
        raise RobosteerError(f"{source}: {error}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise RobosteerError(
            f"{source}: found text that is not YAML ({show(str(error))}); expected a rig file"
        ) from None


def load_rig(path: str | Path) -> Rig:
    """Read and validate a rig file.

    Raises:
        RobosteerError: for an unreadable file or a wrong field; the message names both.
    """
    if not str(path):
        raise RobosteerError("rig: found '', expected the path of a rig file")
    path = Path(path)
    if path.is_dir():
        raise RobosteerError(f"rig {path}: found a directory, expected a rig file; check the path")
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise RobosteerError(f"rig {path}: found more than {MAX_FILE_BYTES} bytes, expected a rig file")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RobosteerError(f"rig {path}: found no such file, expected a rig file; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RobosteerError(f"rig {path}: found an unreadable file ({error}), expected YAML text") from None
    return parse_rig(text, source=f"rig {path}")


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        nested = [_leaves(item, f"{path}.{key}" if path else str(key)) for key, item in value.items()]
        return {key: leaf for part in nested for key, leaf in part.items()}
    return {path: value}


def differences(found: Rig, expected: Rig) -> list[str]:
    """Every field in which two rigs differ, as "field: found X, expected Y"; empty when they are equal."""
    ours, theirs = _leaves(found.to_dict()), _leaves(expected.to_dict())
    lines = []
    for key in sorted(ours.keys() | theirs.keys()):
        left, right = ours.get(key, "nothing"), theirs.get(key, "nothing")
        if left != right:
            lines.append(f"{key}: found {show(left)}, expected {show(right)}")
    return lines


def recording_differences(found: Rig, expected: Rig) -> list[str]:
    """The differences that change what recorded data means.

    Crop, output size, age limits, the policy's choice of cameras and the sampling rate may differ between recording
    and conversion.
    """
    return [line for line in differences(found, expected) if not _USE_FIELDS.fullmatch(line.split(": ", 1)[0])]
