"""The rows of one episode as LeRobot's columns."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from robosteer_training.dataset import Dataset
from robosteer_training.lerobot import layout
from robosteer_training.lerobot.layout import Feature
from robosteer_training.lerobot.statistics import Stats, image_stats, vector_stats

_BATCH = 32  # frames whose PNGs are in memory at a time


def columns_of(dataset: Dataset, episode: int, task: int, fps: int) -> dict[str, np.ndarray]:
    """Everything but images, as arrays over the episode's rows."""
    rows = dataset.rows(episode)
    count = rows.stop - rows.start
    frame = np.arange(count, dtype=np.int64)
    return {
        layout.JOINTS: dataset.state[rows, :7],
        layout.GRIPPER: dataset.state[rows, 7],
        layout.ACTIONS: dataset.actions[rows],
        layout.JOINT_VELOCITY: dataset.joint_velocity[rows],
        layout.STALE: dataset.stale[rows],
        "timestamp": (frame / fps).astype(np.float32),
        "frame_index": frame,
        "episode_index": np.full(count, episode, dtype=np.int64),
        "index": frame + rows.start,
        "task_index": np.full(count, task, dtype=np.int64),
    }


def tables(
    dataset: Dataset, episode: int, columns: dict[str, np.ndarray], features: dict[str, Feature], schema: pa.Schema
) -> Iterator[pa.Table]:
    """The episode as record batches; images, where they are embedded, as PNG."""
    images = {key: camera for key, camera in layout.image_keys(dataset).items() if features[key].dtype == "image"}
    start, count = dataset.rows(episode).start, len(columns["index"])
    step = _BATCH if images else max(count, 1)
    for first in range(0, count, step):
        rows = slice(first, min(first + step, count))
        arrays: dict[str, Any] = {}
        for name, feature in features.items():
            if feature.dtype == "image":
                stack = dataset.images[images[name]][start + rows.start : start + rows.stop]
                arrays[name] = pa.array(
                    [_png(image, first + i) for i, image in enumerate(stack)], schema.field(name).type
                )
            elif feature.dtype != "video":
                arrays[name] = _array(columns[name][rows], schema.field(name).type)
        yield pa.table(arrays, schema=schema)


def _array(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values, kind)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _png(image: np.ndarray, frame: int) -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    return {"bytes": file.getvalue(), "path": f"frame_{frame:06d}.png"}


def episode_stats(dataset: Dataset, episode: int, columns: dict[str, np.ndarray]) -> Stats:
    """Statistics of every feature of an episode."""
    rows = dataset.rows(episode)
    stats = {key: image_stats(dataset.images[camera][rows]) for key, camera in layout.image_keys(dataset).items()}
    return stats | {name: vector_stats(values) for name, values in columns.items()}
