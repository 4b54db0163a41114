"""Command `robosteer sim-preview`: what the cell's cameras see while the scripted expert performs a task."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from robosteer_rig.environment import Scene
    from robosteer_sim.physics import CellPhysics

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
        variation: change of conditions: lighting, form, distractors, camera or randomised.
        at: for a picture, the moment as a share of the demonstration, 0 ... 1.
        height: of one camera's picture, px; its width is 16/9 of it.
    """

    out: Annotated[Path, tyro.conf.arg(metavar="PATH")]
    task: str = "pick up red cube"
    grid_cell: int = 19
    seed: int = 0
    variation: str = ""
    at: float = 0.55
    height: int = 180


def _moments(scene: Scene, physics: CellPhysics) -> Iterator[float]:
    """Play a demonstration, stopping at the film's rate; yields the time of each moment, s."""
    from robosteer_sim.experts import make_expert
    from robosteer_sim.layout import lay_out
    from robosteer_sim.tasks import task_card
    from robosteer_sim.variations import conditions_of

    physics.reset(lay_out(scene), conditions=conditions_of(scene))
    expert, limit, count = make_expert(scene), task_card(scene.task).time_limit_s, 0
    while not expert.done and physics.time_s < limit:
        if physics.time_s * _FILM_FPS >= count:
            yield physics.time_s
            count += 1
        command = expert.act(physics.measurement())
        for _ in range(5):
            physics.step(*command)


def _views(scene: Scene, height: int, at: float | None) -> list[np.ndarray]:
    """All cameras side by side, (height, w, 3) uint8 RGB, at every moment, or at one given as a share of them."""
    import numpy as np

    from robosteer_sim.cell_model import CAMERAS
    from robosteer_sim.physics import CellPhysics
    from robosteer_sim.rendering import CellCameras

    physics = CellPhysics(samples=_SAMPLES)
    moments = list(_moments(scene, physics)) if at is not None else []
    wanted = moments[round((at or 0.0) * (len(moments) - 1))] if moments else None
    cameras = CellCameras(physics, dict.fromkeys(CAMERAS, (height * 16 // 9, height)))
    pictures: list[np.ndarray] = []
    for time_s in _moments(scene, physics):
        if wanted is None or time_s == wanted:
            pictures.append(np.concatenate([cameras.render(name) for name in ("left", "wrist", "right")], axis=1))
    cameras.close()
    return pictures


def _save(out: Path, pictures: list[np.ndarray]) -> None:
    from PIL import Image

    from robosteer_rig.film import in_one_palette

    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".gif":
        first, *rest = in_one_palette([Image.fromarray(picture) for picture in pictures])
        first.save(out, save_all=True, append_images=rest, duration=round(1000 / _FILM_FPS), loop=0)
    else:
        Image.fromarray(pictures[0]).save(out)


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
    scene = Scene(preview.task, preview.grid_cell, preview.seed, preview.variation)
    pictures = _views(scene, preview.height, None if preview.out.suffix == ".gif" else preview.at)
    _save(preview.out, pictures)
    print(f"{preview.out}: '{preview.task}' from three cameras, moments: {len(pictures)}; {_outcome(scene)}")
    return 0


def _outcome(scene: Scene) -> str:
    """How the scripted expert does, in words."""
    from robosteer_sim.physics import CellPhysics
    from robosteer_sim.rehearsal import rehearse

    found = rehearse(CellPhysics(), scene)
    if found.judge.success:
        return f"the scripted expert succeeds, and ends after {found.duration_s:.1f} s"
    return f"the scripted expert fails: {found.judge.detail}"
