"""How a policy comes to be: loaded from a checkpoint and warmed up, or found at a server."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from robosteer_policy.backends import Backend, LocalBackend, RemoteBackend
from robosteer_policy.contract import require_contract
from robosteer_policy.overlays import ATTENTION, CLUSTER, Attention, Cluster, Overlay
from robosteer_policy.steering.presets import Preset
from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import Rig

if TYPE_CHECKING:
    from robosteer_model.policy import Policy


class Source(Protocol):
    """Loads a backend; may take minutes and runs in the inference thread."""

    def load(self, rig: Rig) -> Backend:
        """Load, compare the contract with the rig, warm up."""
        ...

    def origin(self) -> dict[str, Any]:
        """What records say about where the actions come from."""
        ...


@dataclasses.dataclass(frozen=True)
class CheckpointSource:
    """A checkpoint directory.

    Attributes:
        path: of the directory.
        config: name of a stock model config, for checkpoints that carry none.
        instruction: the first one; the model is compiled for prompts of its length.
        num_steps: flow steps per inference.
        seed: of the sampling noise.
        presets: for steering, compiled in.
        preset_dir: where they came from, for records.
        realtime: whether chunks will be continued; compiled in.
        heads: (layer, head) of the action expert whose attention can be asked for; compiled in.
        cluster: name of the preset whose value vectors' activation can be asked for; compiled in.
    """

    path: str
    config: str | None = None
    instruction: str | None = None
    num_steps: int = 10
    seed: int = 0
    presets: Mapping[str, Preset] = dataclasses.field(default_factory=dict)
    preset_dir: str = ""
    realtime: bool = False
    heads: tuple[tuple[int, int], ...] = ()
    cluster: str = ""

    def load(self, rig: Rig) -> Backend:
        """Compare the contract, load, compile and warm up.

        Raises:
            RobosteerError: when the checkpoint was made for another rig, or a preset for another model.
            ModelError: for a damaged or unfit checkpoint.
        """
        # Imported here: JAX takes seconds, and the node answers meanwhile.
        from robosteer_model.checkpoint import Manifest
        from robosteer_model.checkpoint_layout import Layout
        from robosteer_model.policy import Policy

        manifest = Manifest.read(Layout.open(self.path).manifest)
        if not require_contract(self.path, manifest.rig, manifest.action_convention, rig):
            sys.stderr.write(f"checkpoint {self.path} says nothing about its rig: check cameras and units yourself\n")
        fingerprint = self._fingerprint() if self.presets else ""
        policy = Policy.load(self.path, config=self.config, num_steps=self.num_steps, seed=self.seed)
        composition = None
        if self.presets:
            from robosteer_policy.steering.compose import Composition

            composition = Composition(self.presets, policy.config)
            for line in composition.warnings:
                sys.stderr.write(f"steering: {line}\n")
        trained = manifest.provenance.get("realtime") == "trained"
        backend = LocalBackend(
            policy,
            seed=self.seed,
            composition=composition,
            trained=trained,
            fingerprint=fingerprint,
            overlays=self._overlays(policy, fingerprint),
        )
        backend.warm_up(self.instruction, steered=bool(self.presets), continued=self.realtime)
        return backend

    def _overlays(self, policy: Policy, fingerprint: str) -> dict[str, Overlay]:
        found: dict[str, Overlay] = {}
        if self.heads:
            found[ATTENTION] = Attention(policy, self.heads)
        if self.cluster:
            preset = self.presets[self.cluster]
            if preset.checkpoint not in ("", fingerprint):
                found_for = f"found preset {preset.name} for checkpoint {preset.checkpoint[:12]}"
                raise RobosteerError(f"cluster_overlay: {found_for}, expected one for {fingerprint[:12]}")
            found[CLUSTER] = Cluster(policy, preset)
        return found

    def _fingerprint(self) -> str:
        """Digest of the parameters as they are stored; the policy's own are cast while they are read."""
        from robosteer_model.checkpoint import load_checkpoint
        from robosteer_model.digest import params_digest

        return params_digest(load_checkpoint(self.path, config=self.config).params)

    def origin(self) -> dict[str, Any]:
        """See `Source`."""
        return {
            "checkpoint": self.path,
            "config": self.config,
            "seed": self.seed,
            "num_steps": self.num_steps,
            "preset_dir": self.preset_dir,
            "first_instruction": self.instruction,
        }


@dataclasses.dataclass(frozen=True)
class RemoteSource:
    """A policy server that speaks openpi's protocol.

    Attributes:
        uri: ws://host:port.
        token: sent as Api-Key, or None.
        timeout_s: longest wait for an answer.
    """

    uri: str
    token: str | None = None
    timeout_s: float = 3.0

    def load(self, rig: Rig) -> Backend:
        """Connect, and compare what the server says about its actions with the rig.

        Raises:
            RobosteerError: when it says something else than the rig.
            ModelError: when there is no such server.
        """
        from robosteer_model.serving.client import PolicyClient

        def connect() -> PolicyClient:
            return PolicyClient(self.uri, token=self.token, timeout_s=self.timeout_s)

        with connect() as client:
            convention = client.metadata.get("action_convention")
        if not isinstance(convention, dict) or not convention:
            sys.stderr.write(f"policy server {self.uri} says nothing about its actions: check cameras and units\n")
        else:
            require_contract(self.uri, None, convention, rig)
        return RemoteBackend(connect)

    def origin(self) -> dict[str, Any]:
        """See `Source`."""
        return {"server": self.uri}


def require_source(checkpoint: str, server: str) -> None:
    """Exactly one of both must be given.

    Raises:
        RobosteerError: for none or both.
    """
    if not checkpoint and not server:
        raise RobosteerError(
            "checkpoint, server: found neither, expected one of them; say checkpoint:=PATH or server:=ws://HOST:PORT"
        )
    if checkpoint and server:
        raise RobosteerError("checkpoint, server: found both, expected one of them")
