"""An episode of the scripted expert without pictures: what its success is measured with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from robosteer_rig.environment import Scene
from robosteer_sim.cell_model import TIME_STEP_S
from robosteer_sim.experts import make_expert
from robosteer_sim.judge import Judge
from robosteer_sim.layout import lay_out
from robosteer_sim.motion import Expert
from robosteer_sim.physics import CellPhysics
from robosteer_sim.tasks import task_card
from robosteer_sim.variations import conditions_of


@dataclasses.dataclass(frozen=True)
class Rehearsal:
    """What came of an episode.

    Attributes:
        judge: what it says in the end.
        expert: in its last state.
        commands: (N, 8) joint velocities in rad/s and the gripper, one row per control step.
        success_s: when the task was done; None for never.
        duration_s: until the expert was done, or the task's time was over.
    """

    judge: Judge
    expert: Expert
    commands: np.ndarray
    success_s: float | None
    duration_s: float


def rehearse(
    physics: CellPhysics,
    scene: Scene,
    *,
    rate_hz: float = 15.0,
    latency_steps: int = 0,
    meddle: Callable[[Expert], None] | None = None,
    until: Callable[[Expert], bool] | None = None,
) -> Rehearsal:
    """Let the scripted expert act in a scene.

    Args:
        physics: the cell.
        scene: the starting condition.
        rate_hz: of its commands.
        latency_steps: how many control steps a command takes to arrive.
        meddle: called after every control step.
        until: ends the episode early.

    Returns:
        The outcome.
    """
    physics.reset(lay_out(scene), conditions=conditions_of(scene))
    card = task_card(scene.task)
    judge, expert = Judge(card), make_expert(scene)
    commands: list[np.ndarray] = []
    success_s = None
    while not expert.done and physics.time_s < card.time_limit_s:
        velocity, gripper = expert.act(physics.measurement())
        commands.append(np.append(velocity, gripper))
        *arrived, grip = commands[max(0, len(commands) - 1 - latency_steps)]
        while physics.time_s < len(commands) / rate_hz - TIME_STEP_S / 2:
            physics.step(np.array(arrived), float(grip))
            judge.observe(physics.look())
        if success_s is None and judge.success:
            success_s = physics.time_s
        if meddle is not None:
            meddle(expert)
        if until is not None and until(expert):
            break
    return Rehearsal(judge, expert, np.array(commands), success_s, physics.time_s)
