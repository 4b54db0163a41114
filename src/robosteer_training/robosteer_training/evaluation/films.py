"""Small films of trials: the policy's views side by side, as an animated GIF."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from robosteer_rig.environment import Scene
from robosteer_rig.film import in_one_palette
from robosteer_rig.frame import Frame
from robosteer_rig.rig import Rig
from robosteer_training.files import write_bytes
from robosteer_training.heads.tasks import slug

FRAMES_PER_S = 5.0
MIN_HEIGHT = 128


def film_name(scene: Scene, failure: str) -> str:
    """Tells the scene and what went wrong."""
    variation = f"-{slug(scene.variation)}" if scene.variation else ""
    return f"{slug(scene.task)}{variation}-cell{scene.grid_cell:02d}-seed{scene.seed}-{slug(failure)}.gif"


def save_film(path: Path, frames: Sequence[Frame], rig: Rig) -> None:
    """Write every n-th frame and the last one; small images are enlarged without smoothing."""
    stride = max(1, round(rig.action.rate_hz / FRAMES_PER_S))
    names = list(dict.fromkeys(rig.policy_cameras.values()))
    picked = [*frames[:-1:stride], frames[-1]]
    pictures = in_one_palette([_picture(frame, names) for frame in picked])
    buffer = io.BytesIO()
    durations = [round(1000 / FRAMES_PER_S)] * (len(pictures) - 1) + [1500]
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    write_bytes(path, buffer.getvalue())


def _picture(frame: Frame, names: Sequence[str]) -> Image.Image:
    views = np.concatenate([frame.images[name] for name in names], axis=1)
    factor = -(-MIN_HEIGHT // views.shape[0])
    return Image.fromarray(views.repeat(factor, 0).repeat(factor, 1))
