"""Command `robosteer sim-preview`: what the cell's cameras see while the scripted expert performs a task."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    import numpy as np

    from robosteer_rig.environment import Scene

_SAMPLES = 4
_FILM_FPS = 7.5


@dataclasses.dataclass(frozen=True)
class Preview:
    """Draw the simulated cell: a picture of all cameras, or a film of a demonstration.

    Attributes:
        out: file to write; .png and .jpg give a picture, .gif a film.
        task: instruction, such as "pick up red cube".
        grid_cell: placement of the object, 0 ... 39 (5 rows x 8 columns).
        seed: all other variation.
        at: for a picture, the moment as a share of the demonstration, 0 ... 1.
        height: of one camera's picture, px; its width is 16/9 of it.
    """

    out: Annotated[Path, tyro.conf.arg(metavar="PATH")]
    task: str = "pick up red cube"
    grid_cell: int = 19
    seed: int = 0
    at: float = 0.55
    height: int = 180


def _views(scene: Scene, height: int) -> list[np.ndarray]:
    """All cameras side by side, (height, w, 3) uint8 RGB, at the film's rate during one demonstration."""
    import numpy as np

    from robosteer_sim.cell_model import CAMERAS
    from robosteer_sim.experts import make_expert
    from robosteer_sim.layout import lay_out
    from robosteer_sim.physics import CellPhysics
    from robosteer_sim.rendering import CellCameras
    from robosteer_sim.tasks import task_card

    objects, card = lay_out(scene), task_card(scene.task)
    physics = CellPhysics(samples=_SAMPLES)
    physics.reset(objects)
    cameras = CellCameras(physics, dict.fromkeys(CAMERAS, (height * 16 // 9, height)))
    expert = make_expert(scene)
    pictures: list[np.ndarray] = []
    while not expert.done and physics.time_s < card.time_limit_s:
        if physics.time_s * _FILM_FPS >= len(pictures):
            pictures.append(np.concatenate([cameras.render(name) for name in ("left", "wrist", "right")], axis=1))
        command = expert.act(physics.joint_position, physics.gripper_position, physics.object_poses(), physics.time_s)
        for _ in range(5):
            physics.step(*command)
    cameras.close()
    return pictures


def _save(preview: Preview, pictures: list[np.ndarray]) -> None:
    from PIL import Image

    preview.out.parent.mkdir(parents=True, exist_ok=True)
    if preview.out.suffix == ".gif":
        first, *rest = [Image.fromarray(picture).quantize(64) for picture in pictures]
        first.save(preview.out, save_all=True, append_images=rest, duration=round(1000 / _FILM_FPS), loop=0)
    else:
        Image.fromarray(pictures[round(preview.at * (len(pictures) - 1))]).save(preview.out)


def main(argv: list[str]) -> int:
    """Entry point of `robosteer sim-preview`.

    Raises:
        RobosteerError: for a scene, a file type or a size that does not exist.
    """
    preview = tyro.cli(Preview, args=argv, prog="robosteer sim-preview")
    from robosteer_rig.environment import Scene
    from robosteer_rig.errors import RobosteerError

    if preview.out.suffix not in (".png", ".jpg", ".gif"):
        raise RobosteerError(f"out: found {preview.out.name!r}, expected a name ending in .png, .jpg or .gif")
    if not 0 <= preview.at <= 1:
        raise RobosteerError(f"at: found {preview.at}, expected 0 ... 1")
    if not 32 <= preview.height <= 720:
        raise RobosteerError(f"height: found {preview.height}, expected 32 ... 720 px")
    pictures = _views(Scene(preview.task, preview.grid_cell, preview.seed), preview.height)
    _save(preview, pictures)
    print(f"{preview.out}: {len(pictures)} moments of '{preview.task}' from three cameras")
    return 0
