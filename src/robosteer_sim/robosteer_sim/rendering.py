"""What the cell's cameras see."""

from __future__ import annotations

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_sim.cell_model import CAMERAS
from robosteer_sim.gl import make_renderer
from robosteer_sim.physics import CellPhysics


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
        self._renderers = {size: make_renderer(physics.model, size[1], size[0]) for size in set(sizes.values())}

    def render(self, name: str) -> np.ndarray:
        """(height, width, 3) uint8 RGB of one camera, now."""
        renderer = self._renderers[self._sizes[name]]
        renderer.update_scene(self._physics.data, name)
        return renderer.render()

    def close(self) -> None:
        """Free the OpenGL contexts."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers = {}
