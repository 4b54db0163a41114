"""Where actions come from: a checkpoint in this process, or a policy server that speaks openpi's protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from robosteer_policy.requests import Request
from robosteer_policy.strategies import guide_weights, moved
from robosteer_rig.errors import RobosteerError

if TYPE_CHECKING:
    from robosteer_model.policy import Policy
    from robosteer_policy.overlays import Overlay
    from robosteer_policy.steering.compose import Composition

# Old chunks that a continuation may still refer to.
_REMEMBERED = 8


class Backend(Protocol):
    """Answers observations with normalised actions.

    Attributes:
        fingerprint: digest of the parameters that can be steered; empty when nothing can.
    """

    fingerprint: str

    def actions(
        self, observation: Mapping[str, Any], request: Request, *, steered: bool, executed: bool = True
    ) -> np.ndarray:
        """(H, 8) normalised joint velocities and gripper.

        Args:
            observation: openpi's flat keys.
            request: names the noise, the steering and the continuation.
            steered: False ignores the steering.
            executed: whether these actions will be executed, and may so be continued.
        """
        ...

    def overlay(self, kind: str, observation: Mapping[str, Any], request: Request) -> Mapping[str, np.ndarray]:
        """Field of an image -> (patch rows, patch columns) of the executed policy; {} for what it cannot say."""
        ...


class LocalBackend:
    """A checkpoint in this process. Equal requests in equal order give equal bits.

    Args:
        policy: the model.
        seed: with a request's number it fixes the noise.
        composition: the presets as edits, or None.
        trained: whether the checkpoint was trained for real-time chunking.
        fingerprint: see `Backend`.
        overlays: by kind.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        seed: int = 0,
        composition: Composition | None = None,
        trained: bool = False,
        fingerprint: str = "",
        overlays: Mapping[str, Overlay] = MappingProxyType({}),
    ) -> None:
        self._policy, self._seed, self._composition, self._trained = policy, seed, composition, trained
        self._made: dict[int, np.ndarray] = {}
        self._overlays, self.fingerprint = overlays, fingerprint

    def actions(
        self, observation: Mapping[str, Any], request: Request, *, steered: bool, executed: bool = True
    ) -> np.ndarray:
        """See `Backend`.

        Raises:
            RobosteerError: for steering without presets, or a continuation of a chunk that is not remembered.
        """
        # λ = 0 runs the very program of the untouched policy.
        strengths = request.steering.active if steered else {}
        edits = self._edits(strengths)
        answer = self._policy.infer(observation, self._noise(request.sequence), edits=edits, guide=self._guide(request))
        made = answer.get("model_actions")
        if made is not None and executed:
            self._made[request.sequence] = made
            for old in [n for n in self._made if n <= request.sequence - _REMEMBERED]:
                del self._made[old]
        return np.asarray(answer["actions"], dtype=np.float64)

    def overlay(self, kind: str, observation: Mapping[str, Any], request: Request) -> Mapping[str, np.ndarray]:
        """See `Backend`; costs another inference."""
        if kind not in self._overlays:
            return {}
        edits = self._edits(request.steering.active if request.steering.shadow != "steered" else {})
        return self._overlays[kind].maps(observation, self._noise(request.sequence), edits)

    def warm_up(self, instruction: str | None, *, steered: bool, continued: bool) -> None:
        """Compile all that a run may need, so that no first chunk, no slider and no second chunk is late.

        Args:
            instruction: the first one; room is made for prompts of its length.
            steered: with the presets' edits.
            continued: as the continuation of another chunk.
        """
        config = self._policy.config
        self._policy.warm_up(instruction, self._noise(0))
        edits = self._composition.with_strengths({}) if steered and self._composition is not None else None
        guide = None
        if continued:
            from robosteer_model.realtime import Guide

            zeros = np.zeros((config.action_horizon, config.action_dim), np.float32)
            guide = Guide(zeros, zeros[:, 0], trained=self._trained)
        blank = self._policy.transforms.blank_observation()
        combinations = {(edits is not None, False), (False, guide is not None), (edits is not None, guide is not None)}
        for with_edits, with_guide in sorted(combinations - {(False, False)}):
            self._policy.infer(
                blank, self._noise(0), edits=edits if with_edits else None, guide=guide if with_guide else None
            )
        for overlay in self._overlays.values():
            for one in (None, edits) if edits is not None else (None,):
                overlay.maps(blank, self._noise(0), one)

    def _edits(self, strengths: Mapping[str, float]) -> Any:
        if not strengths:
            return None
        if self._composition is None:
            raise RobosteerError(f"steering: found {', '.join(strengths)}, expected no presets; set preset_dir")
        return self._composition.with_strengths(strengths)

    def _noise(self, sequence: int) -> np.ndarray | None:
        config = self._policy.config
        if config.model_type == "pi0_fast":
            return None
        rng = np.random.default_rng([self._seed, sequence])
        return rng.standard_normal((config.action_horizon, config.action_dim), dtype=np.float32)

    def _guide(self, request: Request) -> Any:
        old = request.continuation
        if old is None:
            return None
        from robosteer_model.realtime import Guide

        previous = self._made.get(old.sequence)
        if previous is None:
            raise RobosteerError(f"continuation: found no chunk {old.sequence}, expected one of the last {_REMEMBERED}")
        weights = guide_weights(len(previous), old.shift, old.delay)
        return Guide(moved(previous, old.shift), weights, trained=self._trained)


class RemoteBackend:
    """A policy server; connects when needed, so that a server that was restarted is found again.

    Args:
        connect: makes a connection with `infer` and `close`.
    """

    fingerprint = ""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._client: Any = None

    def actions(
        self, observation: Mapping[str, Any], request: Request, *, steered: bool, executed: bool = True
    ) -> np.ndarray:
        """See `Backend`.

        Raises:
            RobosteerError: for steering, which openpi's protocol does not carry.
            ModelError: when the server is gone, slow, or refuses; the next call connects again.
        """
        if steered and request.steering.active:
            raise RobosteerError("steering: found a remote policy, expected one in this process; set checkpoint")
        if self._client is None:
            self._client = self._connect()
        try:
            return np.asarray(self._client.infer(observation)["actions"], dtype=np.float64)
        except Exception:
            self.close()
            raise

    def overlay(self, kind: str, observation: Mapping[str, Any], request: Request) -> Mapping[str, np.ndarray]:
        """See `Backend`; openpi's protocol does not carry it."""
        return {}

    def close(self) -> None:
        """End the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
