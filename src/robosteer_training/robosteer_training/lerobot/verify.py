"""Read a LeRobot dataset from beginning to end: every row has its frame of every camera."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_training.lerobot.reader import Episode, LeRobotReader

_TOLERANCE_S = 1e-4  # lerobot's own


@dataclasses.dataclass(frozen=True)
class Verified:
    """What was read back.

    Attributes:
        version: of the format.
        episodes: their number.
        rows: of all episodes.
        frames: images decoded, rows times cameras.
        cameras: features that are images.
    """

    version: str
    episodes: int
    rows: int
    frames: int
    cameras: tuple[str, ...]


def verify(root: Path) -> Verified:
    """Decode everything and compare it with the index.

    Raises:
        RobosteerError: naming the file in which a frame is missing, too many or of another size, or a row is out of
            place.
    """
    reader = LeRobotReader(root)
    rows = frames = 0
    for number, episode in enumerate(reader.episodes):
        if episode.index != number:
            raise RobosteerError(f"{root}: found episode {episode.index} at place {number}, expected them in order")
        _check_columns(reader, episode, rows)
        for key in reader.image_keys:
            frames += _count_frames(reader, episode, key)
        rows += episode.length
    return Verified(reader.version, len(reader.episodes), rows, frames, reader.image_keys)


def _check_columns(reader: LeRobotReader, episode: Episode, before: int) -> None:
    columns = reader.numbers(episode)
    expected = np.arange(episode.length)
    late = np.abs(columns["timestamp"].astype(np.float64) - expected / reader.fps)
    if (columns["frame_index"] != expected).any() or late.max(initial=0) > _TOLERANCE_S:
        raise RobosteerError(f"{episode.data}: found rows out of order or time, expected {reader.fps:g} per second")
    if (columns["index"] != expected + before).any():
        raise RobosteerError(f"{episode.data}: found rows whose index does not go on from {before}")
    for name, values in columns.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise RobosteerError(f"{episode.data}: {name}: found values that are not finite")


def _count_frames(reader: LeRobotReader, episode: Episode, key: str) -> int:
    shape, count = reader.features[key]["shape"], 0
    for image in reader.images(episode, key):
        if image.shape != shape:
            raise RobosteerError(f"{episode.data}: {key}: found an image {image.shape}, expected {shape}")
        count += 1
    if count != episode.length:
        raise RobosteerError(f"{episode.data}: {key}: found {count} frames, expected {episode.length}")
    return count
