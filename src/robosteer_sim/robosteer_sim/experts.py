"""The scripted expert of each task."""

from __future__ import annotations

from robosteer_rig.environment import Scene
from robosteer_sim.criteria import Inside, Pressed, PushedTo, Stacked
from robosteer_sim.expert import PickExpert
from robosteer_sim.expert_place import MarkerExpert, PlaceExpert, StackExpert
from robosteer_sim.expert_touch import PressExpert, PushExpert
from robosteer_sim.grips import MarkerGrip, grip_for
from robosteer_sim.layout import EXPERT_STREAM, PlacedObject, lay_out, scene_random
from robosteer_sim.motion import Expert
from robosteer_sim.objects import form_of
from robosteer_sim.tasks import task_card

_DROP_M = 0.015
"""Height over the vessel's floor from which an object is dropped into it."""


def make_expert(scene: Scene) -> Expert:
    """The expert for a scene, with the scene's own human-like variation.

    Raises:
        RobosteerError: for a scene that does not exist.
    """
    target, *others = lay_out(scene)
    random = scene_random(scene, EXPERT_STREAM)
    match task_card(scene.task).success:
        case Pressed():
            return PressExpert(target.name, random)
        case PushedTo():
            return PushExpert(target.name, others[0].name, (target.radius, others[0].radius), random)
        case Stacked():
            halves, grip = (_half_height(target), _half_height(others[0])), grip_for(target.name, target.form)
            return StackExpert(target.name, others[0].name, halves, random, grip)
        case Inside():
            grip, rim = grip_for(target.name, target.form, others[0].position), _rim(others[0])
            expert = MarkerExpert if isinstance(grip, MarkerGrip) else PlaceExpert
            return expert(target.name, others[0].name, rim, _DROP_M, random, grip)
        case _:
            return PickExpert(target.name, random, grip_for(target.name, target.form))


def _rim(vessel: PlacedObject) -> float:
    """Height of a vessel, m."""
    return form_of(vessel.name, vessel.form)[1].size[-1]


def _half_height(block: PlacedObject) -> float:
    """From the centre of a cube or a block to its top, m."""
    kind, form = form_of(block.name, block.form)
    return kind.rest(form.size)
