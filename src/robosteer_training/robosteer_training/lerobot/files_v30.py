"""Files of format v3.0: many episodes in one file, found by an index."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from robosteer_training.files import write_json
from robosteer_training.lerobot import layout
from robosteer_training.lerobot.layout import CHUNK_SIZE, DATA_FILE_MIB, DATA_PATH, VIDEO_FILE_MIB, VIDEO_PATH, Feature
from robosteer_training.lerobot.statistics import Stats, aggregate, as_json, quantiles
from robosteer_training.lerobot.video import VideoWriter

_MIB = 1 << 20


class _Place:
    """Which file comes next: chunk-000/file-000, file-001, ..."""

    def __init__(self) -> None:
        self.chunk, self.file = 0, 0

    def advance(self) -> None:
        self.file += 1
        if self.file == CHUNK_SIZE:
            self.chunk, self.file = self.chunk + 1, 0

    def fields(self) -> dict[str, int]:
        return {"chunk_index": self.chunk, "file_index": self.file}


class _DataFiles:
    """Parquet files of at most about 100 MiB."""

    def __init__(self, root: Path, schema: pa.Schema) -> None:
        self.place = _Place()
        self._root, self._schema = root, schema
        self._writer: parquet.ParquetWriter | None = None

    def add(self, tables: Iterable[pa.Table]) -> int:
        if self._writer is None:
            path = self._root / DATA_PATH["v3.0"].format(**self.place.fields())
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = parquet.ParquetWriter(path, self._schema)
            self._path = path
        count = 0
        for table in tables:
            self._writer.write_table(table)
            count += table.num_rows
        return count

    def rotate(self) -> None:
        """After an episode: begin a new file when this one is full."""
        if self._writer is not None and self._path.stat().st_size >= DATA_FILE_MIB * _MIB:
            self.close()
            self.place.advance()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class _VideoFiles:
    """MP4 files of one camera, of at most about 200 MiB."""

    def __init__(self, root: Path, key: str, feature: Feature, fps: int) -> None:
        self._root, self._key, self._fps = root, key, fps
        self._height, self._width = feature.shape[:2]
        self._place = _Place()
        self._writer: VideoWriter | None = None
        self._path = root

    def add(self, images: np.ndarray) -> dict[str, Any]:
        """Append an episode; returns where it is."""
        if self._writer is None:
            self._path = self._root / VIDEO_PATH["v3.0"].format(video_key=self._key, **self._place.fields())
            self._writer = VideoWriter(self._path, fps=self._fps, height=self._height, width=self._width)
        first = self._writer.frames
        for image in images:
            self._writer.write(image)
        where = {
            **self._place.fields(),
            "from_timestamp": first / self._fps,
            "to_timestamp": self._writer.frames / self._fps,
        }
        if self._path.stat().st_size >= VIDEO_FILE_MIB * _MIB:
            self.close()
            self._place.advance()
        return where

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class WriterV30:
    """Writes episodes in order."""

    def __init__(self, root: Path, columns: dict[str, Feature], schema: pa.Schema, tasks: list[str], fps: int) -> None:
        self._root, self._tasks = root, tasks
        self._data = _DataFiles(root, schema)
        videos = {key: feature for key, feature in columns.items() if feature.dtype == "video"}
        self._videos = {key: _VideoFiles(root, key, feature, fps) for key, feature in videos.items()}
        self._index: list[dict[str, Any]] = []
        self._stats: list[Stats] = []
        self._frames = 0

    def __enter__(self) -> WriterV30:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.ExitStack() as stack:
            for file in (self._data, *self._videos.values()):
                stack.callback(file.close)

    def add(
        self, episode: int, task: str, tables: Iterable[pa.Table], cameras: dict[str, np.ndarray], stats: Stats
    ) -> None:
        """Write one episode."""
        where = {f"data/{name}": value for name, value in self._data.place.fields().items()}
        count = self._data.add(tables)
        self._data.rotate()
        for key, images in cameras.items():
            found = self._videos[key].add(images)
            where |= {f"videos/{key}/{name}": value for name, value in found.items()}
        row = {
            "episode_index": episode,
            "tasks": [task],
            "length": count,
            **where,
            "dataset_from_index": self._frames,
            "dataset_to_index": self._frames + count,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        flat = {f"stats/{name}/{key}": v.tolist() for name, entry in stats.items() for key, v in entry.items()}
        self._index.append({**row, **flat})
        self._stats.append(stats)
        self._frames += count

    def finish(self, vectors: dict[str, np.ndarray]) -> None:
        """Write the index, the tasks and the statistics.

        Args:
            vectors: state, actions and joint_velocity of the whole dataset, for quantiles.
        """
        path = self._root / layout.EPISODES_PATH.format(chunk_index=0, file_index=0)
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.Table.from_pylist(self._index), path)
        parquet.write_table(_tasks_table(self._tasks), self._root / "meta/tasks.parquet")
        total = aggregate(self._stats)
        state = vectors["state"]
        known = {
            layout.JOINTS: state[:, :7],
            layout.GRIPPER: state[:, 7],
            layout.ACTIONS: vectors["actions"],
            layout.JOINT_VELOCITY: vectors["joint_velocity"],
        }
        for name, values in known.items():
            total[name] |= quantiles(values)
        write_json(self._root / "meta/stats.json", as_json(total))


def _tasks_table(tasks: list[str]) -> pa.Table:
    """A pandas frame with the tasks as its index, which is how lerobot looks them up."""
    index = "__index_level_0__"
    described = [
        {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"},
        {"name": None, "field_name": index, "pandas_type": "unicode", "numpy_type": "object"},
    ]
    names = {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    metadata = {
        "index_columns": [index],
        "column_indexes": [names],
        "columns": [{**column, "metadata": None} for column in described],
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), index: pa.array(tasks, pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(metadata)})
