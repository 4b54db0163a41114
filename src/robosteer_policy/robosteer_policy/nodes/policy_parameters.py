"""The policy node's parameters, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from robosteer_policy.chunks import Asynchronous, Strategy, Synchronous
from robosteer_policy.lateness import MAX_OBSERVATION_AGE_S, OVERRUN_STEPS, STALL_S, Lateness
from robosteer_policy.nodes.parameters import Parameter
from robosteer_policy.overlays import parse_heads
from robosteer_policy.sources import CheckpointSource, RemoteSource, Source, require_source
from robosteer_policy.steering.mixer import Mixer
from robosteer_policy.steering.presets import Preset, load_presets
from robosteer_policy.strategies import Ensembling, RealTime
from robosteer_rig.errors import RobosteerError

STRATEGIES: dict[str, Callable[[int], Strategy]] = {
    "asynchronous": Asynchronous,
    "synchronous": Synchronous,
    "ensembling": Ensembling,
    "realtime": RealTime,
}
SHADOWS = ("", "plain", "steered")
PARAMETERS = (
    Parameter("rig", "", "path of the rig file"),
    Parameter("checkpoint", "", "checkpoint directory"),
    Parameter("server", "", "policy server instead of a checkpoint, ws://host:port"),
    Parameter("server_timeout_s", 3.0, "longest wait for the server's answer, s"),
    Parameter("config", "", "name of a stock model config, for checkpoints without robosteer.json"),
    Parameter("instruction", "", "what to do, in words; applied at the next inference", changeable=True),
    Parameter("auto_enable", False, "start acting as soon as the model and every input are there; for simulation"),
    Parameter("execution", "asynchronous", f"how chunks are executed: {', '.join(STRATEGIES)}"),
    Parameter("execute_steps", 8, "actions of a chunk that are used before the next one takes over; 1 replans always"),
    Parameter("overrun_steps", OVERRUN_STEPS, "actions still executed after the next chunk should have taken over"),
    Parameter("stall_s", STALL_S, "the run ends after this long at rest because the next chunk does not come, s"),
    Parameter(
        "max_observation_age_s",
        MAX_OBSERVATION_AGE_S,
        "actions are discarded if their observation is older than this when the first of them would be executed, s",
    ),
    Parameter("num_steps", 10, "flow steps per inference"),
    Parameter("seed", 0, "of the sampling noise"),
    Parameter("preset_dir", "", "directory of steering presets (*.yaml); empty for none"),
    Parameter("allow_unbound_presets", False, "accept presets that do not name the checkpoint they were made for"),
    Parameter("max_strength", 1.0, "no preset may be stronger than this, 0 ... 1"),
    Parameter("deadman_required", False, "accept only steering that a deadman holds"),
    Parameter("attention_heads", "", "layer.head ... of the action expert whose attention can be seen; empty for none"),
    Parameter("cluster_overlay", "", "preset whose activation by the pictures can be seen; empty for none"),
    Parameter("shadow", "", "compute and publish but do not execute: plain or steered; empty for neither"),
)


def make_strategy(name: str, execute_steps: int) -> Callable[[], Strategy]:
    """A factory of fresh strategies.

    Raises:
        RobosteerError: for an unknown name or fewer than one step.
    """
    if name not in STRATEGIES:
        raise RobosteerError(f"execution: found {name!r}, expected one of {', '.join(STRATEGIES)}")
    if execute_steps < 1:
        raise RobosteerError(f"execute_steps: found {execute_steps}, expected at least 1")
    return lambda: STRATEGIES[name](execute_steps)


def make_lateness(values: dict[str, Any], rate_hz: float) -> Lateness:
    """What is done about late chunks.

    Raises:
        RobosteerError: for limits that make no sense.
    """
    limits = values["overrun_steps"], values["stall_s"], values["max_observation_age_s"]
    return Lateness(round(1e9 / rate_hz), *limits)


def make_source(values: dict[str, Any], presets: dict[str, Preset]) -> Source:
    """A checkpoint or a server.

    Raises:
        RobosteerError: for neither or both, or for a server asked for what only a checkpoint can do.
    """
    require_source(values["checkpoint"], values["server"])
    realtime, heads = values["execution"] == "realtime", parse_heads(values["attention_heads"])
    cluster = values["cluster_overlay"]
    if cluster and cluster not in presets:
        known = ", ".join(sorted(presets)) or "none found"
        raise RobosteerError(f"cluster_overlay: found {cluster!r}, expected a preset of preset_dir: {known}")
    if values["server"]:
        if presets or realtime or heads:
            raise RobosteerError(
                "server: found presets, attention_heads or execution realtime, expected none; set checkpoint instead"
            )
        return RemoteSource(values["server"], timeout_s=values["server_timeout_s"])
    return CheckpointSource(
        path=values["checkpoint"],
        config=values["config"] or None,
        instruction=values["instruction"],
        num_steps=values["num_steps"],
        seed=values["seed"],
        presets=presets,
        preset_dir=values["preset_dir"],
        realtime=realtime,
        heads=heads,
        cluster=cluster,
    )


def make_steering(values: dict[str, Any]) -> tuple[dict[str, Preset], Mixer]:
    """The presets and the mixer.

    Raises:
        RobosteerError: for a wrong preset, strength or shadow.
    """
    if values["shadow"] not in SHADOWS:
        raise RobosteerError(f"shadow: found {values['shadow']!r}, expected plain, steered or nothing")
    presets = load_presets(values["preset_dir"]) if values["preset_dir"] else {}
    mixer = Mixer(
        presets,
        max_strength=values["max_strength"],
        deadman_required=values["deadman_required"],
        allow_unbound=values["allow_unbound_presets"],
    )
    return presets, mixer
