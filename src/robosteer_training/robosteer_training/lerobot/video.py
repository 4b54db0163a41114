"""H.264 in MP4: one frame per dataset row, checked by decoding."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import av
import numpy as np
from av.error import FFmpegError

from robosteer_rig.errors import RobosteerError
from robosteer_rig.fields import show

if TYPE_CHECKING:
    from av.video.stream import VideoStream

QUALITY_CRF = 18  # Visually lossless; smaller is better and larger.
KEYFRAME_EVERY = 2  # Training reads single frames at random.


class VideoWriter:
    """Encodes frames of one size; use it as a context manager."""

    def __init__(self, path: Path, *, fps: int, height: int, width: int) -> None:
        """Open the file.

        Raises:
            RobosteerError: for odd sizes, which H.264's chroma cannot have.
        """
        if height % 2 or width % 2:
            raise RobosteerError(f"video: found {width}x{height}, expected even sizes; export PNG images or resize")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.frames = 0
        self._container = av.open(str(path), "w", options={"movflags": "faststart"})
        options = {"crf": str(QUALITY_CRF), "g": str(KEYFRAME_EVERY), "bf": "0", "preset": "veryfast"}
        self._stream: VideoStream = self._container.add_stream("libx264", rate=fps, options=options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._time_base = Fraction(1, fps)
        # One thread each: the output does not depend on the machine, and episodes may be encoded side by side.
        self._stream.thread_count = 1

    def write(self, image: np.ndarray) -> None:
        """Append a uint8 RGB image (h, w, 3)."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, frame.time_base = self.frames, self._time_base
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._container.close()

    def close(self) -> None:
        """Write what the encoder still holds."""
        self._container.mux(self._stream.encode(None))
        self._container.close()


def read_frames(path: Path, *, fps: float, start_s: float = 0.0, count: int | None = None) -> Iterator[np.ndarray]:
    """Decode frames in order.

    Args:
        path: of the video.
        fps: its rate; a frame belongs to the row whose time it is nearest to.
        start_s: time of the first frame wanted.
        count: frames wanted; None takes all that follow.

    Yields:
        (h, w, 3) uint8 RGB.

    Raises:
        RobosteerError: for a damaged file, or when a frame is missing or there twice.
    """
    expected = 0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            if start_s > 0:
                container.seek(int(start_s / (stream.time_base or Fraction(1))), stream=stream)
            for frame in container.decode(stream):
                if frame.time is None:
                    raise RobosteerError(f"{path}: found a frame without a time, expected one per frame")
                row = round((frame.time - start_s) * fps)
                if row < 0:
                    continue
                if count is not None and expected == count:
                    break
                if row != expected:
                    raise RobosteerError(f"{path}: found a frame at row {row}, expected row {expected}")
                yield frame.to_ndarray(format="rgb24")
                expected += 1
    except (FFmpegError, IndexError, OSError, ValueError) as error:
        raise RobosteerError(f"{path}: found a damaged video ({show(str(error))}), expected MP4") from None
    if count is not None and expected != count:
        raise RobosteerError(f"{path}: found {expected} frames, expected {count}")
