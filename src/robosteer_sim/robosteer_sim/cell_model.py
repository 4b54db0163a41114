"""The whole cell as one MuJoCo model: arm, gripper, table, objects, lights and three cameras."""

# MuJoCo's compiled modules carry no type information.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from robosteer_sim.gl import mujoco
from robosteer_sim.gripper import add_gripper
from robosteer_sim.objects import KINDS
from robosteer_sim.panda import add_panda

TIME_STEP_S = 0.004
TABLE_COLOUR = (0.56, 0.43, 0.30, 1.0)
Slot = tuple[str, int]
"""Kind and form of an object that a model has room for; what is not in the scene is parked out of sight."""
CUBES: tuple[Slot, ...] = (("cube", 0), ("cube", 0))
"""The room of the tasks with cubes alone: what a policy has learnt from must not change."""


@dataclasses.dataclass(frozen=True)
class CameraPlacement:
    """Where a camera stands and looks.

    Attributes:
        position: m, in the frame of the body that carries it.
        target: the point in the middle of its picture, m, same frame.
        up: direction that points up in the picture.
        vertical_field_of_view: degrees.
    """

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    up: tuple[float, float, float]
    vertical_field_of_view: float

    @property
    def rotation(self) -> np.ndarray:
        """(3, 3) axes of the camera as columns: x right, y up, z backwards (OpenGL's convention)."""
        z = np.subtract(self.position, self.target).astype(float)
        z /= np.linalg.norm(z)
        x = np.cross(self.up, z)
        x /= np.linalg.norm(x)
        return np.stack([x, np.cross(z, x), z], axis=1)

    def focal_length_px(self, height: int) -> float:
        """Pinhole focal length, in pixels of a picture of that height."""
        return height / 2 / math.tan(math.radians(self.vertical_field_of_view) / 2)


CAMERAS: dict[str, CameraPlacement] = {
    # On the hand, in front of the fingers, tilted so that the pads are at the lower edge of the picture.
    "wrist": CameraPlacement((0.075, 0.0, 0.045), (0.035, 0.0, 0.155), (1.0, 0.0, 0.0), 75.0),
    # In front of the table, on both sides; the middle square of the picture holds the whole workspace.
    "left": CameraPlacement((1.02, 0.52, 0.62), (0.47, 0.0, 0.10), (0.0, 0.0, 1.0), 43.0),
    "right": CameraPlacement((1.02, -0.52, 0.62), (0.47, 0.0, 0.10), (0.0, 0.0, 1.0), 43.0),
}


def _set_options(spec: mujoco.MjSpec, samples: int) -> None:
    option = spec.option
    option.timestep = TIME_STEP_S
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 10.0
    option.solver = mujoco.mjtSolver.mjSOL_NEWTON
    spec.compiler.degree = False
    spec.compiler.autolimits = True
    view = spec.visual
    view.global_.offwidth, view.global_.offheight = 1280, 720
    view.quality.offsamples = samples
    view.headlight.ambient = [0.42, 0.42, 0.42]
    view.headlight.diffuse = [0.25, 0.25, 0.25]
    view.headlight.specular = [0.0, 0.0, 0.0]
    view.map.znear, view.map.zfar = 0.01, 10.0
    spec.stat.extent = 1.0
    spec.stat.center = [0.4, 0.0, 0.2]


def _add_surroundings(spec: mujoco.MjSpec) -> None:
    """Table, backdrop and lights."""
    spec.add_texture(
        name="backdrop",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.70, 0.74, 0.78],
        rgb2=[0.38, 0.40, 0.43],
        width=64,
        height=384,
    )
    spec.add_material(name="robot", specular=0.3, shininess=0.4)
    spec.add_material(name="table", rgba=TABLE_COLOUR, specular=0.05, shininess=0.1)
    spec.add_material(name="object", specular=0.1, shininess=0.2)
    world = spec.worldbody
    world.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=[0.42, 0.0, -0.02],
        size=[0.62, 0.72, 0.02],
        material="table",
        contype=1,
        conaffinity=3,
        friction=[0.9, 0.01, 0.0001],
    )
    for position, brightness in (((0.9, 0.9, 1.6), 0.38), ((0.6, -1.2, 1.4), 0.22)):
        world.add_light(
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
            pos=position,
            dir=[-p for p in position],
            diffuse=[brightness] * 3,
            specular=[0.15] * 3,
            castshadow=False,
        )


def _add_camera(body: mujoco.MjsBody, name: str, camera: CameraPlacement) -> None:
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, camera.rotation.reshape(-1))
    body.add_camera(name=name, pos=camera.position, quat=quaternion, fovy=camera.vertical_field_of_view)


def slot_names(slots: Sequence[Slot]) -> tuple[str, ...]:
    """The name of each slot's body: its kind and a number, such as "cube_0", "cube_1", "bowl_0"."""
    return tuple(f"{kind}_{[k for k, _ in slots[:i]].count(kind)}" for i, (kind, _) in enumerate(slots))


def build_model(samples: int = 0, slots: Sequence[Slot] = CUBES) -> mujoco.MjModel:
    """Compile the cell; a few milliseconds, no files.

    Args:
        samples: of anti-aliasing per pixel; 0 draws twice as fast, and what a policy has learnt from must not change.
        slots: the objects that there is room for.
    """
    spec = mujoco.MjSpec()
    spec.modelname = "robosteer_cell"
    _set_options(spec, samples)
    _add_surroundings(spec)
    hand = add_gripper(spec, add_panda(spec))
    for (kind, form), name in zip(slots, slot_names(slots), strict=True):
        KINDS[kind].build(spec, name, KINDS[kind].forms[form].size)
    for name, camera in CAMERAS.items():
        _add_camera(hand if name == "wrist" else spec.worldbody, name, camera)
    return spec.compile()
