"""The scenes with cubes alone, in which policies that are kept have learnt, stay as they are.

Pins: another compiled model, another layout, another motion under the same commands, another demonstration by the
expert, other pictures. Numbers were made when these scenes were all that there was; if a test here fails, a change
reached the old scenes and belongs behind a new kind of object, a variation or a stream of random numbers of its own.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from robosteer_rig.environment import Scene
from robosteer_sim.cell_model import build_model
from robosteer_sim.gl import mujoco
from robosteer_sim.layout import lay_out

PINNED = json.loads((Path(__file__).parent / "data" / "cube_scenes.json").read_text())
SHAPES = ("nq", "nv", "nu", "nbody", "ngeom", "neq", "ntendon", "ncam", "nlight", "nmat")
FIELDS = (
    *("qpos0", "body_pos", "body_quat", "body_mass", "body_inertia", "body_ipos", "body_gravcomp"),
    *("geom_type", "geom_size", "geom_pos", "geom_rgba", "geom_friction", "geom_solref", "geom_solimp", "geom_condim"),
    *("geom_contype", "geom_conaffinity", "jnt_range", "dof_armature", "dof_damping", "actuator_gainprm"),
    *("actuator_biasprm", "cam_pos", "cam_quat", "cam_fovy", "light_pos", "light_dir", "light_diffuse", "mat_rgba"),
)


def summary(model):
    """Sums and weighted sums of everything that matters in a model."""
    found = {name: float(getattr(model, name)) for name in SHAPES}
    for name in FIELDS:
        values = np.asarray(getattr(model, name), float).ravel()
        found[name] = float(values.sum())
        found[f"{name} in order"] = float(values @ np.cos(np.arange(len(values))))
    return found


def coarse(image):
    """(8, 8, 3): mean colours of a picture's tiles."""
    side = image.shape[0] // 8
    return image.reshape(8, side, 8, side, 3).mean(axis=(1, 3))


def test_the_model_is_the_same():
    assert summary(build_model()) == pytest.approx(PINNED["model"], rel=1e-9, abs=1e-9)
    assert mujoco.mj_sizeModel(build_model()) == PINNED["model_bytes"]


@pytest.mark.parametrize("number", range(len(PINNED["scenes"])))
def test_layouts_demonstrations_and_pictures_are_the_same(environment, number):
    pinned = PINNED["scenes"][number]
    scene = Scene(*pinned["scene"])
    placed = [[o.name, *o.position, o.yaw] for o in lay_out(scene)]
    for found, expected in zip(placed, pinned["layout"], strict=True):
        assert found[0] == expected[0]
        assert found[1:] == pytest.approx(expected[1:], abs=1e-12)
    pairs = list(environment.demonstrate(scene, disturbance=pinned["disturbance"]))
    assert len(pairs) == pinned["frames"]
    assert environment.success
    states = [np.append(frame.joint_position, frame.gripper_position) for frame, _ in pairs[::10]]
    assert np.allclose(states, pinned["states"], atol=1e-6)
    assert np.allclose([action for _, action in pairs[::10]], pinned["actions"], atol=1e-6)
    for name, expected in pinned["pictures"].items():
        # Another version of the rasteriser may round differently.
        assert np.abs(coarse(pairs[30][0].images[name]) - np.array(expected)).max() < 1.0
