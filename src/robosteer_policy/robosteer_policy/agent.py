"""From an aligned frame to an action chunk: everything about acting that needs neither ROS nor a clock."""

from __future__ import annotations

import time

import numpy as np

from robosteer_policy.backends import Backend
from robosteer_policy.chunks import Chunk
from robosteer_policy.requests import Look, Outcome, Request
from robosteer_rig.droid import observation
from robosteer_rig.errors import RobosteerError
from robosteer_rig.frame import Frame
from robosteer_rig.rig import Rig


class Agent:
    """A policy on a rig.

    Args:
        backend: the model, here or elsewhere.
        rig: names the cameras, the unit of an action and its rate.
    """

    def __init__(self, backend: Backend, rig: Rig) -> None:
        self._backend = backend
        self._rig = rig

    def act(self, request: Request) -> Outcome:
        """Infer one chunk, and in shadow mode that of the other policy, from the same noise.

        Raises:
            RobosteerError: when the policy's actions are not finite or have another shape.
        """
        start = time.monotonic_ns()
        seen = observation(request.frame, self._rig, request.instruction)
        shadow = request.steering.shadow
        actions = self._backend.actions(seen, request, steered=shadow != "steered")
        chunk = to_chunk(actions, request.frame.stamp_ns, self._rig, request.sequence)
        other = None
        if shadow:
            actions = self._backend.actions(seen, request, steered=shadow == "steered", executed=False)
            other = to_chunk(actions, request.frame.stamp_ns, self._rig, request.sequence)
        return Outcome(chunk, other, time.monotonic_ns() - start)

    def look(self, request: Request) -> Look:
        """What somebody wants to see of an inference; one more inference for each kind."""
        seen = observation(request.frame, self._rig, request.instruction)
        return Look(request, {kind: self._backend.overlay(kind, seen, request) for kind in sorted(request.overlays)})


def to_chunk(actions: np.ndarray, stamp_ns: int, rig: Rig, sequence: int = 0) -> Chunk:
    """Actions (H, 8) in the rig's convention -> joint velocities in rad/s and gripper positions.

    As DROID's controller does, a step in which any |u| exceeds 1 is scaled down as a whole vector; the gripper is
    clipped to its range.

    Raises:
        RobosteerError: for another shape or values that are not finite.
    """
    width = len(rig.arm.joints) + 1
    if actions.ndim != 2 or actions.shape[1] != width or not len(actions):
        raise RobosteerError(f"policy: found actions of shape {actions.shape}, expected (H, {width})")
    if not np.isfinite(actions).all():
        raise RobosteerError("policy: found actions that are not finite, expected numbers; check the checkpoint")
    u = actions[:, :-1]
    u = u / np.maximum(np.abs(u).max(axis=1, keepdims=True), 1.0)
    return Chunk(
        stamp_ns=stamp_ns,
        velocity=u * rig.action.unit_rad_per_s,
        gripper=np.clip(actions[:, -1], 0.0, 1.0),
        period_ns=round(1e9 / rig.action.rate_hz),
        sequence=sequence,
    )


def why_stale(frame: Frame | None, rig: Rig) -> str:
    """One phrase about inputs that must not be acted on, or an empty string."""
    if frame is None:
        return "not every camera, joint and gripper stream has arrived yet"
    limits = {name: camera.max_age_s for name, camera in rig.cameras.items()}
    parts = []
    for name in frame.stale:
        age_ms = frame.ages_ns.get(name, 0) / 1e6
        limit = f", limit {limits[name] * 1e3:.0f} ms" if name in limits else ""
        parts.append(f"{name} is {age_ms:.0f} ms old{limit}")
    return "; ".join(parts)
