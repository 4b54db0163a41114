"""What guard and policy would refuse after their start, for a launcher that asks first (`robosteer.launch_checks`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import load_rig


def guard(parameters: Mapping[str, Any]) -> None:
    """A rig file that can be read: all that guard, watchdog and homing need.

    Raises:
        RobosteerError: naming file and field.
    """
    load_rig(parameters.get("rig", ""))


def policy(parameters: Mapping[str, Any]) -> None:
    """A checkpoint (or a server) that was made for this rig, an instruction, presets and heads that can be read.

    Raises:
        RobosteerError: naming what is not so.
        ModelError: for what is no checkpoint.
    """
    from robosteer_model.checkpoint_layout import Layout
    from robosteer_model.checkpoint_manifest import Manifest
    from robosteer_policy.contract import require_contract
    from robosteer_policy.overlays import parse_heads
    from robosteer_policy.sources import require_source
    from robosteer_policy.steering.presets import load_presets

    rig, checkpoint = load_rig(parameters.get("rig", "")), parameters.get("checkpoint", "")
    require_source(checkpoint, parameters.get("server", ""))
    if not parameters.get("instruction", "").strip():
        raise RobosteerError("instruction: found none, expected what the policy shall do; say instruction:=...")
    if checkpoint:
        manifest = Manifest.read(Layout.open(checkpoint).manifest)
        require_contract(checkpoint, manifest.rig, manifest.action_convention, rig)
    parse_heads(parameters.get("attention_heads", ""))
    directory, cluster = parameters.get("preset_dir", ""), parameters.get("cluster_overlay", "")
    presets = load_presets(directory) if directory else {}
    if cluster and cluster not in presets:
        known = ", ".join(sorted(presets)) or "none found"
        raise RobosteerError(f"cluster_overlay: found {cluster!r}, expected a preset of preset_dir: {known}")
