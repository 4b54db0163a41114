"""Take a LeRobot dataset into our store, so that data which exists already can be steered on."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_rig.fields import FieldError, show
from robosteer_rig.frame import Frame
from robosteer_rig.images import prepare
from robosteer_rig.kinematics import tool_transform
from robosteer_rig.replay import replay_error
from robosteer_rig.rig import Rig, parse_rig
from robosteer_rig.units import NS_PER_S
from robosteer_training.dataset import (
    DATASET_FILE,
    DATASET_SCHEMA,
    EPISODE_SCHEMA,
    Dataset,
    EpisodeMeta,
    load_dataset,
    read_json,
)
from robosteer_training.episode_writer import EpisodeWriter, new_directory
from robosteer_training.files import json_digest, write_json
from robosteer_training.keyframes import Selection
from robosteer_training.lerobot import layout
from robosteer_training.lerobot.reader import Episode, LeRobotReader

IMPORTER_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Mapping:
    """Which feature is what.

    Attributes:
        images: image key of the policy ("wrist_image_left") -> feature; keys that are left out map to themselves.
        joints: (7,) positions in rad, or (8,) with the gripper as last entry.
        gripper: (1,), 0 open ... 1 closed; not read when `joints` has eight entries.
        actions: (8,) seven normalised joint velocities and the gripper command.
    """

    images: dict[str, str] = dataclasses.field(default_factory=dict)
    joints: str = layout.JOINTS
    gripper: str = layout.GRIPPER
    actions: str = layout.ACTIONS


def import_lerobot(
    root: Path,
    out: Path,
    rig: Rig | None = None,
    *,
    mapping: Mapping | None = None,
    selection: Selection | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Dataset:
    """Import every episode; those that are in the store already are not read again.

    Args:
        root: LeRobot dataset, format v2.0, v2.1 or v3.0.
        out: the store.
        rig: what the actions mean and how images are cropped; None takes the contract of an export of ours.
        mapping: names of the features; DROID's by default.
        selection: frames to score and train on.
        progress: told the episodes that are done and their number.

    Raises:
        RobosteerError: for a damaged dataset, and for features, units or sizes that do not fit the rig.
    """
    mapping = mapping or Mapping()
    reader = LeRobotReader(root)
    rig = _rig_of(root, rig)
    rig = dataclasses.replace(rig, action=dataclasses.replace(rig.action, rate_hz=reader.fps))
    sources = _image_sources(reader, rig, mapping)
    # Once for each file: in v3.0 hundreds of episodes share one of a few hundred MiB.
    digest = functools.cache(_file_digest)
    keys = []
    for done, episode in enumerate(reader.episodes, start=1):
        key = _key(reader, episode, rig, mapping, digest)
        if not (out / "episodes" / key).exists():
            with new_directory(out / "episodes" / key) as directory:
                _import_episode(reader, episode, directory, rig, mapping, sources, key, digest(episode.data))
        keys.append(key)
        progress(done, len(reader.episodes))
    content = {
        "schema": DATASET_SCHEMA,
        "rig": rig.to_yaml(),
        "rig_digest": rig.digest(),
        "rate_hz": reader.fps,
        "cameras": list(sources),
        "episodes": list(dict.fromkeys(keys)),
        "selection": dataclasses.asdict(selection or Selection()),
    }
    write_json(out / DATASET_FILE, content)
    return load_dataset(out)


def _rig_of(root: Path, rig: Rig | None) -> Rig:
    if rig is not None:
        return rig
    file = root / layout.CONTRACT_FILE
    if not file.exists():
        raise RobosteerError(f"{root}: found no {layout.CONTRACT_FILE}, expected a contract; pass --rig")
    text = read_json(file, layout.CONTRACT_SCHEMA).get("rig")
    if not isinstance(text, str):
        raise RobosteerError(f"{file}: found {show(text)}, expected the text of a rig file; pass --rig")
    return parse_rig(text, source=str(file))


def _image_sources(reader: LeRobotReader, rig: Rig, mapping: Mapping) -> dict[str, str]:
    """Camera of the rig -> feature, for every image of the policy and whatever else an export of ours has."""
    sources = {}
    for key, camera in rig.policy_cameras.items():
        feature = mapping.images.get(key, key)
        if feature not in reader.image_keys:
            raise RobosteerError(
                f"{reader.root}: found images {', '.join(reader.image_keys) or 'none'}, expected {feature!r}; "
                f"say which one with --image {key}=NAME"
            )
        sources[camera] = feature
    ordered = {camera: sources[camera] for camera in rig.cameras if camera in sources}
    for key, feature in mapping.images.items():
        if key in rig.cameras:
            ordered[key] = feature
        elif key not in rig.policy_cameras:
            known = ", ".join((*rig.policy_cameras, *rig.cameras))
            raise RobosteerError(f"--image: found {key!r}, expected one of {known}")
    return ordered


def _key(reader: LeRobotReader, episode: Episode, rig: Rig, mapping: Mapping, digest: Callable[[Path], str]) -> str:
    files = {episode.data, *(path for path, _ in episode.videos.values())}
    content = {
        "importer": IMPORTER_VERSION,
        "files": sorted(digest(path) for path in files),
        "episode": episode.index,
        "task": episode.task,
        "fps": reader.fps,
        "rig": rig.digest(),
        "mapping": dataclasses.asdict(mapping),
    }
    return json_digest(content)[:32]


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RobosteerError(f"{path}: found no readable file ({error.strerror}), expected an episode's data") from None


def _import_episode(
    reader: LeRobotReader,
    episode: Episode,
    directory: Path,
    rig: Rig,
    mapping: Mapping,
    sources: dict[str, str],
    key: str,
    data_sha256: str,
) -> None:
    columns = reader.numbers(episode)
    state, actions = _state(reader, columns, mapping), _actions(reader, columns, mapping)
    velocity = columns.get(layout.JOINT_VELOCITY, np.zeros((episode.length, 7)))
    stale = columns.get(layout.STALE, np.zeros(episode.length, dtype=bool))
    writer = EpisodeWriter(directory, rig, tuple(sources))
    try:
        for row, images in enumerate(_views(reader, episode, rig, sources)):
            frame = Frame(
                stamp_ns=round(row * NS_PER_S / reader.fps),
                images=images,
                joint_position=state[row, :7],
                joint_velocity=velocity[row],
                gripper_position=float(state[row, 7]),
                ages_ns=dict.fromkeys(sources, 0),
                stale=tuple(sources) if stale[row] else (),
            )
            writer.append(frame)
        meta = _meta(reader, episode, rig, key, state, actions, stale, data_sha256)
        writer.finish(actions, slice(0, episode.length), meta)
    finally:
        writer.close()


def _meta(
    reader: LeRobotReader,
    episode: Episode,
    rig: Rig,
    key: str,
    state: np.ndarray,
    actions: np.ndarray,
    stale: np.ndarray,
    data_sha256: str,
) -> EpisodeMeta:
    action = rig.action
    tool = tool_transform(rig.frames)
    replay = replay_error(
        state[:, :7], actions, unit_rad_per_s=action.unit_rad_per_s, rate_hz=action.rate_hz, tool=tool
    )
    return EpisodeMeta(
        schema=EPISODE_SCHEMA,
        key=key,
        source=f"{reader.root}#{episode.index}",
        instruction=episode.task,
        outcome="unknown",
        frames=episode.length,
        trimmed=(0, 0),
        stale_frames=int(stale.sum()),
        stream_counts={},
        max_age_s={},
        bag_sha256=data_sha256,
        replay=dataclasses.asdict(replay),
    )


def _column(reader: LeRobotReader, columns: dict[str, np.ndarray], name: str, widths: tuple[int, ...]) -> np.ndarray:
    if name not in columns:
        raise RobosteerError(
            f"{reader.root}: found features {', '.join(columns)}, expected {name!r}; say what it is called"
        )
    values = columns[name].reshape(len(columns[name]), -1).astype(np.float32)
    if values.shape[1] not in widths:
        shown = " or ".join(map(str, widths))
        raise RobosteerError(f"{reader.root}: {name}: found {values.shape[1]} numbers per row, expected {shown}")
    if not np.isfinite(values).all():
        raise RobosteerError(f"{reader.root}: {name}: found values that are not finite, expected numbers")
    return values


def _state(reader: LeRobotReader, columns: dict[str, np.ndarray], mapping: Mapping) -> np.ndarray:
    state = _column(reader, columns, mapping.joints, (7, 8))
    gripper = mapping.joints
    if state.shape[1] == 7:
        gripper = mapping.gripper
        state = np.concatenate([state, _column(reader, columns, gripper, (1,))], axis=1)
    _require_share(reader, gripper, state[:, 7])
    if np.abs(state[:, :7]).max() > 2 * np.pi:
        worst = np.abs(state[:, :7]).max()
        raise RobosteerError(f"{reader.root}: {mapping.joints}: found {worst:.4g}, expected rad; are these degrees?")
    return state


def _actions(reader: LeRobotReader, columns: dict[str, np.ndarray], mapping: Mapping) -> np.ndarray:
    actions = _column(reader, columns, mapping.actions, (8,))
    _require_share(reader, mapping.actions, actions[:, 7])
    return actions


def _require_share(reader: LeRobotReader, name: str, values: np.ndarray) -> None:
    if values.min() < -0.05 or values.max() > 1.05:
        raise RobosteerError(
            f"{reader.root}: {name}: found a gripper from {values.min():.3g} to {values.max():.3g}, "
            "expected 0 (open) to 1 (closed)"
        )


def _views(
    reader: LeRobotReader, episode: Episode, rig: Rig, sources: dict[str, str]
) -> Iterator[dict[str, np.ndarray]]:
    """Images of all cameras, row by row, at the rig's output size."""
    streams: dict[str, Any] = {camera: reader.images(episode, feature) for camera, feature in sources.items()}
    for images in zip(*streams.values(), strict=True):
        yield {name: _view(image, rig, name) for name, image in zip(streams, images, strict=True)}


def _view(image: np.ndarray, rig: Rig, name: str) -> np.ndarray:
    camera = rig.cameras[name]
    side = camera.output_size
    if image.shape == (side, side, 3):
        return image
    try:
        return prepare(image, camera)
    except FieldError:
        raise
    except RobosteerError as error:
        raise RobosteerError(f"cameras.{name}: {error}, or {side}x{side} where it is cropped already") from None
