"""One closed-loop trial of a policy in an in-process environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from robosteer_rig.droid import observation as droid_observation
from robosteer_rig.environment import Environment, Scene
from robosteer_rig.frame import Frame
from robosteer_rig.rig import Rig
from robosteer_training.evaluation.motion import Motion, MotionMeter


class ActionSource(Protocol):
    """What a policy must offer (`robosteer_model.policy.Policy` does)."""

    def infer(self, raw_observation: Mapping[str, Any], noise: np.ndarray | None = None) -> dict[str, Any]:
        """Return {"actions": (H, 8)} for one DROID observation."""
        ...


class TrialCancelled(Exception):
    """The user asked to stop."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """Outcome of one trial.

    Attributes:
        scene: the starting condition.
        success: whether the task was done in time.
        duration_s: until success, or until the time was up.
        failure: why it failed, in one word; None for a success.
        motion: how the policy moved; None where nobody measured it.
        film: file of the film, if there is one.
        card: digest of the task card, if it is the user's own (`robosteer_rig.environment.task_digest`).
    """

    scene: Scene
    success: bool
    duration_s: float
    failure: str | None = None
    motion: Motion | None = None
    film: str | None = None
    card: str | None = None


@dataclasses.dataclass(frozen=True)
class Manner:
    """How a policy is run.

    Attributes:
        execute_steps: actions of a chunk executed before the next inference.
        time_limit_s: simulated seconds per trial; None takes the task's.
    """

    execute_steps: int = 8
    time_limit_s: float | None = None


def flow_noise(scene: Scene, step: int, shape: tuple[int, int]) -> np.ndarray:
    """Noise that depends on the scene and the step alone, so that two policies are compared on the same draws."""
    return np.random.default_rng([scene.seed, scene.grid_cell, step]).standard_normal(shape).astype(np.float32)


def run_trial(
    policy: ActionSource,
    environment: Environment,
    scene: Scene,
    rig: Rig,
    noise_shape: tuple[int, int],
    manner: Manner,
    *,
    frames: list[Frame] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Trial:
    """Let the policy act, `execute_steps` of each chunk, until success or the time limit.

    Args:
        policy: gives action chunks.
        environment: the cell.
        scene: the starting condition.
        rig: contract that both agree on.
        noise_shape: (horizon, action_dim) of the model.
        manner: how.
        frames: when given, every frame is appended (for films).
        cancelled: asked before every step.

    Raises:
        TrialCancelled: when `cancelled` said so.
    """
    frame = environment.reset(scene)
    unit, rate_hz = rig.action.unit_rad_per_s, rig.action.rate_hz
    limit_s = environment.time_limit_s if manner.time_limit_s is None else manner.time_limit_s
    meter, chunk, every = MotionMeter(rig), np.empty((0, 8)), manner.execute_steps
    for step in range(max(1, round(limit_s * rate_hz))):
        if cancelled():
            raise TrialCancelled
        if frames is not None:
            frames.append(frame)
        if step % every == 0:
            raw = droid_observation(frame, rig, scene.task)
            chunk = np.asarray(policy.infer(raw, noise=flow_noise(scene, step, noise_shape))["actions"])
        action = chunk[step % every]
        velocity = np.clip(action[:7], -1, 1) * unit
        meter.note(action, velocity, frame)
        look = frames is not None or (step + 1) % every == 0
        frame = environment.step(velocity, float(np.clip(action[7], 0, 1)), look=look)
        if environment.success:
            return Trial(scene, True, (step + 1) / rate_hz, motion=meter.result())
    if frames is not None:
        frames.append(frame)
    failure = environment.failure
    return Trial(scene, False, limit_s, "timed_out" if failure is None else str(failure), meter.result())
