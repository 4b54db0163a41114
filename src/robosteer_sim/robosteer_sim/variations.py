"""Named changes of a scene: how well does a policy bear what it was not shown?

The paper's three (lighting, form, distractors), moved cameras, and random appearance for pretraining. Where things lie
does not depend on the variation, so policies are compared in the same placements under all of them. `layout.lay_out`
applies what concerns objects.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from robosteer_rig.environment import Scene
from robosteer_sim.cell_model import TABLE_COLOUR
from robosteer_sim.layout import VARIATION_STREAM, scene_random
from robosteer_sim.objects import Colour

AMBIENT = 0.08
"""Of the dim room."""
CAMERA_SHIFT_M, CAMERA_TURN_RAD = 0.08, math.radians(5.0)
"""At most, of a moved camera in front of the table."""
_WRIST_SHARE = 0.08  # the camera on the hand is a few centimetres from what it sees
_APPEARANCE_SHARE = 0.3  # of a moved camera's motion, when everything is random


@dataclasses.dataclass(frozen=True)
class Light:
    """A lamp far away.

    Attributes:
        position: m; it shines towards the base of the robot.
        brightness: 0 ... 1.
    """

    position: tuple[float, float, float]
    brightness: float


@dataclasses.dataclass(frozen=True)
class Conditions:
    """What differs from the ordinary cell, besides the objects.

    Attributes:
        ambient: light from everywhere, 0 ... 1; None for the ordinary.
        headlight: light from the camera's place, 0 ... 1; None for the ordinary.
        lights: one for each of the cell's two; None for the ordinary.
        table: its colour; None for the ordinary.
        cameras: name -> shift (3,) m and turn (3,) rad, a rotation vector, both in the frame that carries the camera.
    """

    ambient: float | None = None
    headlight: float | None = None
    lights: tuple[Light, Light] | None = None
    table: Colour | None = None
    cameras: Mapping[str, tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=dict)


ORDINARY = Conditions()


def conditions_of(scene: Scene) -> Conditions:
    """Light, table and cameras of a scene."""
    random = scene_random(scene, VARIATION_STREAM)
    match scene.variation:
        case "lighting":
            return _one_lamp(random)
        case "camera":
            return Conditions(cameras=_moved_cameras(random, 0.5, 1.0))
        case "randomised":
            return _random_appearance(random)
        case _:
            return ORDINARY


def _one_lamp(random: np.random.Generator) -> Conditions:
    """A dim room with a bright lamp on one side."""
    side = float(random.choice([-1.0, 1.0]))
    lamp = Light((float(random.uniform(0.2, 0.7)), 1.3 * side, float(random.uniform(0.7, 1.0))), 0.95)
    return Conditions(AMBIENT, 0.0, (lamp, Light((0.0, 0.0, 1.0), 0.0)))


def _moved_cameras(random: np.random.Generator, least: float, most: float) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every camera moved and turned by some share, `least` ... `most`, of the largest motion."""
    moved = {}
    for name in ("left", "right", "wrist"):
        share = _WRIST_SHARE if name == "wrist" else 1.0
        shift, turn = (_direction(random) * random.uniform(least, most) for _ in range(2))
        # The camera on the hand turns less, too, but not as much less as it moves.
        moved[name] = shift * CAMERA_SHIFT_M * share, turn * CAMERA_TURN_RAD * math.sqrt(share)
    return moved


def _direction(random: np.random.Generator) -> np.ndarray:
    """(3,) a unit vector."""
    vector = random.normal(size=3)
    return vector / np.linalg.norm(vector)


def _random_appearance(random: np.random.Generator) -> Conditions:
    """Other light, another table, cameras not quite in their places."""

    def lamp() -> Light:
        azimuth, height = random.uniform(-math.pi, math.pi), random.uniform(0.8, 1.8)
        position = (1.2 * math.cos(azimuth), 1.2 * math.sin(azimuth), float(height))
        return Light(position, float(random.uniform(0.05, 0.5)))

    tint = random.uniform(0.5, 1.4, 3)
    table = tuple(float(c) for c in np.clip(np.array(TABLE_COLOUR[:3]) * tint, 0.05, 1.0))
    return Conditions(
        ambient=float(random.uniform(0.25, 0.55)),
        headlight=float(random.uniform(0.10, 0.35)),
        lights=(lamp(), lamp()),
        table=(table[0], table[1], table[2], 1.0),
        cameras=_moved_cameras(random, 0.0, _APPEARANCE_SHARE),
    )
