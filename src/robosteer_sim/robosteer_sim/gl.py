"""MuJoCo imported with an off-screen OpenGL back end chosen.

MuJoCo reads MUJOCO_GL once, at import; every module of this package takes `mujoco` from here so that the choice is made
in one place. Values that the user has set win.
"""

# MuJoCo's compiled modules carry no type information.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import os

os.environ.setdefault("MUJOCO_GL", "egl")
# Mesa's software rasteriser in the calling thread: for pictures this small its worker threads cost more than they give,
# and on a busy machine a picture would wait for each of them to be scheduled.
os.environ.setdefault("LP_NUM_THREADS", "0")

import mujoco  # must follow the line above

from robosteer_rig.errors import RobosteerError

__all__ = ["make_renderer", "mujoco"]


def make_renderer(model: mujoco.MjModel, height: int, width: int) -> mujoco.Renderer:
    """An off-screen renderer, without shadows or reflections (they cost ten times the rest on a CPU).

    Raises:
        RobosteerError: where no OpenGL context can be made.
    """
    try:
        renderer = mujoco.Renderer(model, height, width)
    except Exception as problem:  # Drivers fail in many types: ImportError, AttributeError, RuntimeError, GLError...
        backend = os.environ.get("MUJOCO_GL", "")
        raise RobosteerError(
            f"rendering: found no OpenGL context for MUJOCO_GL={backend!r} ({type(problem).__name__}), expected "
            "off-screen EGL; do `apt-get install libegl1 libgl1-mesa-dri` and unset MUJOCO_GL"
        ) from problem
    for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_HAZE):
        renderer.scene.flags[flag] = False
    return renderer
