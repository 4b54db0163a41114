"""One closed-loop trial of a policy in an in-process environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from robosteer_rig.droid import observation as droid_observation
from robosteer_rig.environment import Environment, Scene
from robosteer_rig.frame import Frame
from robosteer_rig.rig import Rig


class ActionSource(Protocol):
    """What a policy must offer (`robosteer_model.policy.Policy` does)."""

    def infer(self, raw_observation: Mapping[str, Any], noise: np.ndarray | None = None) -> dict[str, Any]:
        """Return {"actions": (H, 8)} for one DROID observation."""
        ...


@dataclasses.dataclass(frozen=True)
class Trial:
    """Outcome of one trial.

    Attributes:
        scene: the starting condition.
        success: whether the task was done in time.
        duration_s: until success, or until the time was up.
        peak_joint_velocity: largest commanded |joint velocity|, rad/s.
    """

    scene: Scene
    success: bool
    duration_s: float
    peak_joint_velocity: float


def flow_noise(scene: Scene, step: int, shape: tuple[int, int]) -> np.ndarray:
    """Noise that depends on the scene and the step alone, so that two policies are compared on the same draws."""
    return np.random.default_rng([scene.seed, scene.grid_cell, step]).standard_normal(shape).astype(np.float32)


def run_trial(
    policy: ActionSource,
    environment: Environment,
    scene: Scene,
    rig: Rig,
    noise_shape: tuple[int, int],
    *,
    execute_steps: int = 5,
    time_limit_s: float = 10.0,
    frames: list[Frame] | None = None,
) -> Trial:
    """Let the policy act, `execute_steps` of each chunk, until success or the time limit.

    Args:
        policy: gives action chunks.
        environment: the cell.
        scene: the starting condition.
        rig: contract that both agree on.
        noise_shape: (horizon, action_dim) of the model.
        execute_steps: actions executed open loop before the next inference.
        time_limit_s: simulated seconds.
        frames: when given, every frame is appended (for videos).

    Returns:
        The outcome.
    """
    frame = environment.reset(scene)
    unit, rate_hz = rig.action.unit_rad_per_s, rig.action.rate_hz
    peak, chunk = 0.0, np.empty((0, 8))
    for step in range(round(time_limit_s * rate_hz)):
        if frames is not None:
            frames.append(frame)
        if step % execute_steps == 0:
            raw = droid_observation(frame, rig, scene.task)
            chunk = np.asarray(policy.infer(raw, noise=flow_noise(scene, step, noise_shape))["actions"])
        action = chunk[step % execute_steps]
        velocity = np.clip(action[:7], -1, 1) * unit
        peak = max(peak, float(np.abs(velocity).max()))
        frame = environment.step(velocity, float(np.clip(action[7], 0, 1)))
        if environment.success:
            return Trial(scene, True, (step + 1) / rate_hz, peak)
    return Trial(scene, False, time_limit_s, peak)
