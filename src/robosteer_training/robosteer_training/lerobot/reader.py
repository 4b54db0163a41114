"""Read LeRobot datasets of formats v2.0, v2.1 and v3.0 without trusting what they declare."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from robosteer_rig.errors import RobosteerError
from robosteer_rig.fields import show
from robosteer_rig.images import decode_image
from robosteer_training.lerobot.layout import CHUNK_SIZE, DATA_PATH, INFO_FILE, VIDEO_PATH
from robosteer_training.lerobot.video import read_frames

VERSIONS = ("v2.0", "v2.1", "v3.0")
MAX_JSON_BYTES = 256 << 20
MAX_FPS = 1000
_IMAGES = ("image", "video")


@dataclasses.dataclass(frozen=True)
class Episode:
    """Where one episode is.

    Attributes:
        index: its number.
        length: rows.
        task: what was shown.
        data: parquet file.
        videos: feature -> (MP4 file, time of the first frame in s).
    """

    index: int
    length: int
    task: str
    data: Path
    videos: dict[str, tuple[Path, float]]


class LeRobotReader:
    """One dataset on disk.

    Attributes:
        root: its directory.
        version: v2.0, v2.1 or v3.0.
        fps: rows per second.
        features: name -> {"dtype", "shape", ...} as in info.json.
        episodes: in order.
    """

    def __init__(self, root: Path) -> None:
        """Read the metadata.

        Raises:
            RobosteerError: when a file is missing or damaged, or of another version; the message names it.
        """
        self.root = root
        if not root.is_dir():
            found = "a file" if root.exists() else "no such directory"
            raise RobosteerError(f"{root}: found {found}, expected the directory of a LeRobot dataset; check the path")
        info = _json(root / INFO_FILE)
        try:
            self.version = str(info["codebase_version"])
            self.fps = float(info["fps"])
            self.features: dict[str, dict[str, Any]] = {
                str(name): {"dtype": str(entry["dtype"]), "shape": tuple(int(size) for size in entry["shape"])}
                for name, entry in info["features"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RobosteerError(
                f"{root / INFO_FILE}: found no usable {show(str(error))}, expected LeRobot's"
            ) from None
        if self.version not in VERSIONS:
            raise RobosteerError(f"{root}: found LeRobot {self.version}, expected one of {', '.join(VERSIONS)}")
        if not 0 < self.fps <= MAX_FPS:
            raise RobosteerError(f"{root}: found {self.fps:g} frames per second, expected a number in (0, {MAX_FPS}]")
        for name in self.features:
            if "/" in name or name.startswith("."):
                raise RobosteerError(f"{root}: found feature {show(name)}, expected a name without / and leading dot")
        try:
            self.episodes = tuple(self._episodes_v3() if self.version == "v3.0" else self._episodes_v2())
        except (KeyError, TypeError, ValueError, IndexError, OSError, pa.ArrowException) as error:
            raise RobosteerError(f"{root}/meta: found a damaged index ({show(str(error))})") from None
        if not self.episodes:
            raise RobosteerError(f"{root}: found no episodes, expected some")

    @property
    def image_keys(self) -> tuple[str, ...]:
        """Features that are images, embedded or as video."""
        return tuple(name for name, feature in self.features.items() if feature["dtype"] in _IMAGES)

    def _episodes_v2(self) -> Iterator[Episode]:
        videos = [name for name, feature in self.features.items() if feature["dtype"] == "video"]
        for line in _json_lines(self.root / "meta/episodes.jsonl"):
            index = int(line["episode_index"])
            place = {"episode_chunk": index // CHUNK_SIZE, "episode_index": index}
            files = {key: (self.root / VIDEO_PATH["v2.1"].format(video_key=key, **place), 0.0) for key in videos}
            data = self.root / DATA_PATH["v2.1"].format(**place)
            yield Episode(index, int(line["length"]), str(line["tasks"][0]), data, files)

    def _episodes_v3(self) -> Iterator[Episode]:
        videos = [name for name, feature in self.features.items() if feature["dtype"] == "video"]
        wanted = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index"]
        wanted += [f"videos/{key}/{name}" for key in videos for name in ("chunk_index", "file_index", "from_timestamp")]
        for file in sorted((self.root / "meta/episodes").glob("*/*.parquet")):
            for row in parquet.read_table(file, columns=wanted).to_pylist():
                place = {name: int(row[f"data/{name}"]) for name in ("chunk_index", "file_index")}
                yield Episode(
                    int(row["episode_index"]),
                    int(row["length"]),
                    str(row["tasks"][0]),
                    self.root / DATA_PATH["v3.0"].format(**place),
                    {key: self._video_v3(row, key) for key in videos},
                )

    def _video_v3(self, row: dict[str, Any], key: str) -> tuple[Path, float]:
        place = {name: int(row[f"videos/{key}/{name}"]) for name in ("chunk_index", "file_index")}
        path = self.root / VIDEO_PATH["v3.0"].format(video_key=key, **place)
        return path, float(row[f"videos/{key}/from_timestamp"])

    def numbers(self, episode: Episode) -> dict[str, np.ndarray]:
        """Every feature that is no image: (n,) or (n, d).

        Raises:
            RobosteerError: for a missing or damaged file, and when it has another number of rows than promised.
        """
        names = [name for name, feature in self.features.items() if feature["dtype"] not in (*_IMAGES, "string")]
        try:
            table = self._table(episode, names)
            return {name: _array(table[name], self.features[name]["shape"]) for name in names}
        except (ValueError, TypeError) as error:
            raise RobosteerError(f"{episode.data}: found a damaged column ({show(str(error))})") from None

    def images(self, episode: Episode, key: str) -> Iterator[np.ndarray]:
        """Frames of one camera in order, (h, w, 3) uint8 RGB.

        Raises:
            RobosteerError: for damaged ones, and when there are fewer or more than rows.
        """
        if key in episode.videos:
            path, start_s = episode.videos[key]
            if not path.is_file():
                raise RobosteerError(f"{path}: found no such file, expected the video of episode {episode.index}")
            yield from read_frames(path, fps=self.fps, start_s=start_s, count=episode.length)
            return
        for value in self._table(episode, [key])[key]:
            content = (value.as_py() or {}).get("bytes")
            if not isinstance(content, bytes):
                raise RobosteerError(f"{episode.data}: {key}: found an image without bytes, expected it embedded")
            yield decode_image(content, "png" if content[:4] == b"\x89PNG" else "jpeg")

    def _table(self, episode: Episode, columns: list[str]) -> pa.Table:
        try:
            mine = [("episode_index", "=", episode.index)]
            table = parquet.read_table(episode.data, columns=columns, filters=mine)
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise RobosteerError(f"{episode.data}: found a damaged file ({show(str(error))})") from None
        if table.num_rows != episode.length:
            raise RobosteerError(
                f"{episode.data}: found {table.num_rows} rows of episode {episode.index}, expected {episode.length}"
            )
        return table


def _array(column: Any, shape: tuple[int, ...]) -> np.ndarray:
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = values.chunk(0)
    if pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        flat = values.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(values), *shape)
    return values.to_numpy(zero_copy_only=False)


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise RobosteerError(f"{path}: found more than {MAX_JSON_BYTES >> 20} MiB, expected metadata")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise RobosteerError(f"{path}: found no readable file ({reason}), expected LeRobot's") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise RobosteerError(f"{path}: found damaged JSON ({show(str(error))})") from None
    if not isinstance(content, dict):
        raise RobosteerError(f"{path}: found {show(content)}, expected a mapping")
    return content


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in _read_text(path).splitlines():
        if line.strip():
            yield json.loads(line)
