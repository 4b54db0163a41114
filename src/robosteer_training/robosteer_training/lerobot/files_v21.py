"""Files of format v2.1: one per episode, and JSON lines beside them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from robosteer_training.files import write_bytes
from robosteer_training.lerobot.layout import CHUNK_SIZE, DATA_PATH, VIDEO_PATH, Feature
from robosteer_training.lerobot.statistics import Stats, as_json
from robosteer_training.lerobot.video import VideoWriter


class WriterV21:
    """Writes episodes in order."""

    def __init__(self, root: Path, columns: dict[str, Feature], schema: pa.Schema, tasks: list[str], fps: int) -> None:
        self._root, self._columns, self._schema, self._tasks, self._fps = root, columns, schema, tasks, fps
        self._episodes: list[dict[str, Any]] = []
        self._stats: list[dict[str, Any]] = []

    def __enter__(self) -> WriterV21:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing stays open between episodes."""

    def add(
        self, episode: int, task: str, tables: Iterable[pa.Table], cameras: dict[str, np.ndarray], stats: Stats
    ) -> None:
        """Write one episode."""
        place = {"episode_chunk": episode // CHUNK_SIZE, "episode_index": episode}
        path = self._root / DATA_PATH["v2.1"].format(**place)
        path.parent.mkdir(parents=True, exist_ok=True)
        count = 0
        with parquet.ParquetWriter(path, self._schema) as writer:
            for table in tables:
                writer.write_table(table)
                count += table.num_rows
        for key, images in cameras.items():
            height, width, _ = self._columns[key].shape
            file = self._root / VIDEO_PATH["v2.1"].format(video_key=key, **place)
            with VideoWriter(file, fps=self._fps, height=height, width=width) as video:
                for image in images:
                    video.write(image)
        self._episodes.append({"episode_index": episode, "tasks": [task], "length": count})
        self._stats.append({"episode_index": episode, "stats": as_json(stats)})

    def finish(self, vectors: dict[str, np.ndarray]) -> None:
        """Write the JSON lines; `vectors` is not needed in this format."""
        tasks = [{"task_index": i, "task": task} for i, task in enumerate(self._tasks)]
        for name, lines in (("episodes", self._episodes), ("episodes_stats", self._stats), ("tasks", tasks)):
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            write_bytes(self._root / f"meta/{name}.jsonl", text.encode())
