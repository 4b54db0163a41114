"""Attention drawn over camera images: stills and a film."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from robosteer_rig.errors import RobosteerError
from robosteer_rig.heat import overlay
from robosteer_training.files import remove
from robosteer_training.heads.attention import AttentionMaps

_MARGIN = 14


def sheet(
    maps: AttentionMaps, images: Mapping[str, np.ndarray], at: int, rate_hz: float, *, shown: int = 3, size: int = 160
) -> np.ndarray:
    """One frame: cameras side by side; below each its mean over all heads, then the first `shown` heads.

    Args:
        maps: attention, with the same scale over all frames of it.
        images: camera slot -> uint8 (F, h, w, 3), as the model saw them.
        at: which of the maps' frames.
        rate_hz: of the dataset's frames, for the time since the first of the maps.
        shown: heads that get a line of their own.
        size: side of a picture in pixels.
    """
    shown, row = min(shown, len(maps.heads)), maps.rows[at]
    labels = [f"mean of {len(maps.heads)} heads", *(f"head ({a},{b})" for a, b in maps.heads[:shown])]
    columns = []
    for slot, heat in maps.maps.items():
        picture, lines = images[slot][row], [heat.mean(1), *np.moveaxis(heat[:, :shown], 1, 0)]
        plain = np.asarray(Image.fromarray(picture).resize((size, size)))
        title = slot.removesuffix("_0_rgb").removesuffix("_rgb")
        cells = [_labelled(plain, f"{title} {(row - maps.rows[0]) / rate_hz:.1f} s")]
        for label, line in zip(labels, lines, strict=True):
            cells.append(_labelled(overlay(picture, line[at], float(line.max()), size), label))
        columns.append(np.concatenate(cells))
    return np.concatenate(columns, axis=1)


def _labelled(cell: np.ndarray, text: str) -> np.ndarray:
    canvas = Image.new("RGB", (cell.shape[1], cell.shape[0] + _MARGIN), "white")
    canvas.paste(Image.fromarray(cell), (0, _MARGIN))
    ImageDraw.Draw(canvas).text((2, 1), text, fill="black")
    return np.asarray(canvas)


def stills(maps: AttentionMaps, images: Mapping[str, np.ndarray], rate_hz: float, count: int = 4) -> np.ndarray:
    """Evenly spread frames side by side, uint8 (h, w, 3)."""
    picks = np.unique(np.linspace(0, len(maps.rows) - 1, count).round().astype(int))
    return np.concatenate([sheet(maps, images, int(i), rate_hz, size=112) for i in picks], axis=1)


def film(
    path: Path,
    maps: AttentionMaps,
    images: Mapping[str, np.ndarray],
    rate_hz: float,
    stride: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write all frames of the maps, every `stride`-th of the dataset's, as an MP4 film (H.264) in real time."""
    total = len(maps.rows)

    def frames() -> Iterator[np.ndarray]:
        for i in range(total):
            yield sheet(maps, images, i, rate_hz)
            if progress is not None:
                progress(i + 1, total)

    write_film(path, frames(), rate_hz / stride)


def write_film(path: Path, pictures: Iterator[np.ndarray], rate_hz: float) -> None:
    """Encode uint8 (h, w, 3) pictures of one size; the file appears when it is whole.

    Raises:
        RobosteerError: no place to write, or no encoder.
    """
    import av
    from av.error import FFmpegError

    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with av.open(str(partial), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=Fraction(rate_hz).limit_denominator(1000))
            stream.pix_fmt = "yuv420p"
            for picture in pictures:
                even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
                if not stream.codec_context.is_open:
                    stream.height, stream.width = even.shape[:2]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")))
            container.mux(stream.encode(None))
        partial.replace(path)
    except (OSError, FFmpegError) as error:
        raise RobosteerError(f"{path}: cannot write the film ({error}); check the place and free space") from error
    finally:
        remove(partial)


def png(picture: np.ndarray) -> bytes:
    """PNG file of a uint8 (h, w, 3) picture."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def recording(
    path: Path, maps: AttentionMaps, images: Mapping[str, np.ndarray], stamps_ns: Sequence[int] | np.ndarray
) -> None:
    """Write images and attention as a Rerun recording.

    Raises:
        RobosteerError: Rerun is not installed.
    """
    try:
        rr: Any = importlib.import_module("rerun")
    except ImportError as error:
        raise RobosteerError(
            "--rerun: found no package rerun-sdk, expected it; `pip install rerun-sdk`, or leave the option out"
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = rr.RecordingStream("robosteer_heads")
    stream.save(str(path))
    for i, row in enumerate(maps.rows):
        stream.set_time("time", timestamp=np.datetime64(int(stamps_ns[row]), "ns"))
        for slot, heat in maps.maps.items():
            stream.log(f"{slot}/image", rr.Image(images[slot][row]))
            for j, (layer, head) in enumerate(maps.heads):
                stream.log(f"{slot}/head_{layer}_{head}", rr.Tensor(heat[i, j]))
            mean, picture = heat.mean(1), images[slot][row]
            stream.log(f"{slot}/mean", rr.Image(overlay(picture, mean[i], float(mean.max()), picture.shape[0])))
    stream.flush()


def sheet_mean(
    maps: AttentionMaps, images: Mapping[str, np.ndarray], slot: str, at: int, size: int = 224
) -> np.ndarray:
    """The mean over all heads on one camera image."""
    mean = maps.maps[slot].mean(1)
    return overlay(images[slot][maps.rows[at]], mean[at], float(mean.max()), size)
