"""What LeRobot's formats call things: features, paths, info.json and the schema of the data files.

Format v2.1 (lerobot 0.1-0.3, what openpi trains from) has one file per episode; v3.0 (lerobot 0.4 and newer) puts
many episodes into one file and finds them by an index.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Literal

import pyarrow as pa

from robosteer_rig.errors import RobosteerError
from robosteer_training.dataset import Dataset

Version = Literal["v2.1", "v3.0"]
ImageKind = Literal["png", "video"]

CHUNK_SIZE = 1000
DATA_FILE_MIB, VIDEO_FILE_MIB = 100, 200
DATA_PATH = {
    "v2.1": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    "v3.0": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
}
VIDEO_PATH = {
    "v2.1": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    "v3.0": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
}
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
INFO_FILE = "meta/info.json"
CONTRACT_FILE = "meta/robosteer.json"
CONTRACT_SCHEMA = "robosteer.lerobot/1"

JOINTS, GRIPPER, ACTIONS = "joint_position", "gripper_position", "actions"
JOINT_VELOCITY, STALE = "measured_joint_velocity", "is_stale"
SECOND_EXTERIOR = "exterior_image_2_left"
INDEX_COLUMNS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
_ARROW = {"float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_()}


@dataclasses.dataclass(frozen=True)
class Feature:
    """One column of a dataset.

    Attributes:
        dtype: float32, int64, bool, image or video.
        shape: of one frame's value.
        names: of its entries.
    """

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None

    def to_json(self, fps: int) -> dict[str, Any]:
        """As info.json has it."""
        content: dict[str, Any] = {"dtype": self.dtype, "shape": list(self.shape)}
        content["names"] = None if self.names is None else list(self.names)
        if self.dtype == "video":
            content["info"] = {
                "video.height": self.shape[0],
                "video.width": self.shape[1],
                "video.channels": self.shape[2],
                "video.codec": "h264",
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "video.fps": fps,
                "has_audio": False,
            }
        return content


def image_keys(dataset: Dataset) -> dict[str, str]:
    """Feature name -> camera of the dataset: DROID's names for the policy's cameras.

    The first other camera becomes the second exterior one, which openpi's DROID configuration names too; any further
    one keeps its own name.
    """
    keys = {key: camera for key, camera in dataset.rig.policy_cameras.items() if camera in dataset.images}
    for camera in dataset.images:
        if camera not in keys.values():
            keys[SECOND_EXTERIOR if SECOND_EXTERIOR not in keys else f"{camera}_image"] = camera
    return keys


def features(dataset: Dataset, kind: ImageKind) -> dict[str, Feature]:
    """All features of an export, images first."""
    joints = dataset.rig.arm.joints
    result = {}
    for key, camera in image_keys(dataset).items():
        shape = dataset.images[camera].shape[1:]
        result[key] = Feature("video" if kind == "video" else "image", shape, ("height", "width", "channel"))
    result[JOINTS] = Feature("float32", (7,), joints)
    result[GRIPPER] = Feature("float32", (1,), ("gripper",))
    result[ACTIONS] = Feature("float32", (8,), (*joints, "gripper"))
    result[JOINT_VELOCITY] = Feature("float32", (7,), joints)
    result[STALE] = Feature("bool", (1,))
    return result | {name: Feature(dtype, (1,)) for name, dtype in INDEX_COLUMNS.items()}


def whole_fps(rate_hz: float) -> int:
    """LeRobot's `fps`, a whole number.

    Raises:
        RobosteerError: for a rate that is none.
    """
    if rate_hz != round(rate_hz):
        raise RobosteerError(
            f"rate: found {rate_hz:g} Hz, expected a whole number for LeRobot; convert at another rate"
        )
    return round(rate_hz)


def info_json(
    version: Version, columns: dict[str, Feature], *, fps: int, episodes: int, frames: int, tasks: int
) -> dict[str, Any]:
    """Content of meta/info.json."""
    videos = sum(feature.dtype == "video" for feature in columns.values())
    info: dict[str, Any] = {
        "codebase_version": version,
        "robot_type": "panda",
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": CHUNK_SIZE,
        "fps": fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA_PATH[version],
        "video_path": VIDEO_PATH[version] if videos else None,
        "features": {name: feature.to_json(fps) for name, feature in columns.items()},
    }
    if version == "v2.1":
        return {**info, "total_videos": videos * episodes, "total_chunks": -(-episodes // CHUNK_SIZE)}
    return {**info, "data_files_size_in_mb": DATA_FILE_MIB, "video_files_size_in_mb": VIDEO_FILE_MIB}


def arrow_schema(columns: dict[str, Feature]) -> pa.Schema:
    """Schema of the data files; its metadata tell the `datasets` library which columns are images."""
    fields, described = [], {}
    for name, feature in columns.items():
        if feature.dtype == "video":
            continue
        if feature.dtype == "image":
            fields.append(pa.field(name, pa.struct({"bytes": pa.binary(), "path": pa.string()})))
            described[name] = {"_type": "Image"}
            continue
        scalar = {"dtype": feature.dtype, "_type": "Value"}
        if feature.shape == (1,):
            fields.append(pa.field(name, _ARROW[feature.dtype]))
            described[name] = scalar
        else:
            fields.append(pa.field(name, pa.list_(_ARROW[feature.dtype], feature.shape[0])))
            described[name] = {"feature": scalar, "length": feature.shape[0], "_type": "Sequence"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": described}})})
