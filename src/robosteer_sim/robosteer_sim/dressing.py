"""Puts a compiled cell under other conditions, and back."""

# MuJoCo's compiled modules carry no type information.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import numpy as np

from robosteer_sim.gl import mujoco
from robosteer_sim.variations import Conditions

_FIELDS = ("light_pos", "light_dir", "light_diffuse", "mat_rgba", "cam_pos", "cam_quat")


class Dressing:
    """Remembers how a model looks ordinarily."""

    def __init__(self, model: mujoco.MjModel) -> None:
        """For a model that was just compiled."""
        self._model = model
        self._fields = {name: getattr(model, name).copy() for name in _FIELDS}
        headlight = model.vis.headlight
        self._ambient, self._headlight = headlight.ambient.copy(), headlight.diffuse.copy()

    def apply(self, conditions: Conditions) -> None:
        """The conditions and nothing of earlier ones."""
        model = self._model
        for name, values in self._fields.items():
            getattr(model, name)[:] = values
        headlight = model.vis.headlight
        headlight.ambient = self._ambient if conditions.ambient is None else np.full(3, conditions.ambient)
        headlight.diffuse = self._headlight if conditions.headlight is None else np.full(3, conditions.headlight)
        for number, light in enumerate(conditions.lights or ()):
            position = np.array(light.position)
            model.light_pos[number], model.light_diffuse[number] = position, light.brightness
            model.light_dir[number] = -position / np.linalg.norm(position)
        if conditions.table is not None:
            model.mat_rgba[model.material("table").id] = conditions.table
        for name, (shift, turn) in conditions.cameras.items():
            self._move_camera(model.camera(name).id, shift, turn)

    def _move_camera(self, camera: int, shift: np.ndarray, turn: np.ndarray) -> None:
        angle = float(np.linalg.norm(turn))
        quaternion, found = np.array([1.0, 0.0, 0.0, 0.0]), np.empty(4)
        if angle > 0:
            mujoco.mju_axisAngle2Quat(quaternion, turn / angle, angle)
        mujoco.mju_mulQuat(found, quaternion, self._fields["cam_quat"][camera])
        self._model.cam_quat[camera] = found
        self._model.cam_pos[camera] = self._fields["cam_pos"][camera] + shift
