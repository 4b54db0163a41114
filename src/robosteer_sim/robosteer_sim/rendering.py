"""What the cell's cameras see."""

# MuJoCo's compiled modules carry no type information.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_sim.cell_model import CAMERAS
from robosteer_sim.gl import make_renderer, mujoco
from robosteer_sim.physics import MAX_STAGES, CellPhysics


class CellCameras:
    """Off-screen renderers, one per picture size; use it from one thread only, as OpenGL demands."""

    def __init__(self, physics: CellPhysics, sizes: dict[str, tuple[int, int]]) -> None:
        """Make the renderers.

        Args:
            physics: whose state is drawn.
            sizes: camera name -> width and height in pixels.

        Raises:
            RobosteerError: for a camera that the cell does not have, a picture that is too large, or without OpenGL.
        """
        largest = physics.model.vis.global_
        for name, (width, height) in sizes.items():
            if name not in CAMERAS:
                raise RobosteerError(f"camera: found {name!r}, expected one of {sorted(CAMERAS)}")
            if width > largest.offwidth or height > largest.offheight:
                raise RobosteerError(
                    f"camera {name}: found {width}x{height}, expected at most {largest.offwidth}x{largest.offheight}"
                )
        self._physics = physics
        self._sizes = dict(sizes)
        self._renderers: dict[mujoco.MjModel, dict[tuple[int, int], mujoco.Renderer]] = {}
        self._renderers_of(physics.model)

    def _renderers_of(self, model: mujoco.MjModel) -> dict[tuple[int, int], mujoco.Renderer]:
        """The renderers of a compiled cell, by picture size; made when it is drawn for the first time."""
        if model not in self._renderers:
            while len(self._renderers) >= MAX_STAGES:
                self._free(next(iter(self._renderers)))
            self._renderers[model] = {
                size: make_renderer(model, size[1], size[0]) for size in set(self._sizes.values())
            }
        return self._renderers[model]

    def _free(self, model: mujoco.MjModel) -> None:
        for renderer in self._renderers.pop(model).values():
            renderer.close()

    def render(self, name: str) -> np.ndarray:
        """(height, width, 3) uint8 RGB of one camera, now."""
        renderer = self._renderers_of(self._physics.model)[self._sizes[name]]
        renderer.update_scene(self._physics.data, name)
        return renderer.render()

    def close(self) -> None:
        """Free the OpenGL contexts."""
        for model in list(self._renderers):
            self._free(model)
