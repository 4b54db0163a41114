"""Does a checkpoint fit this rig? Compared before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import Rig, differences, parse_rig

_ACTION_FIELDS = ("convention", "unit_rad_per_s", "rate_hz")


def contract_differences(
    checkpoint_rig: str | None, action_convention: Mapping[str, Any], rig: Rig
) -> tuple[list[str], bool]:
    """Compare what a checkpoint was made for with the rig it shall run on.

    Only fields that change what the policy sees or what its actions mean count: joints, gripper polarity, the policy's
    cameras and their views, the action's convention, unit and rate. Limits, age limits and the rig's name may differ.

    Args:
        checkpoint_rig: text of the rig file inside the checkpoint, if any.
        action_convention: the checkpoint's own statement about its actions, if any.
        rig: of this machine.

    Returns:
        Lines "field: found X, expected Y" (found in the checkpoint, expected by the rig), and whether the checkpoint
        said anything at all.
    """
    lines = []
    for field in _ACTION_FIELDS:
        if field in action_convention and action_convention[field] != getattr(rig.action, field):
            lines.append(f"action.{field}: found {action_convention[field]}, expected {getattr(rig.action, field)}")
    if checkpoint_rig is not None:
        theirs = parse_rig(checkpoint_rig, source="rig inside the checkpoint")
        relevant = _relevant(theirs, rig)
        lines += [line for line in differences(theirs, rig) if relevant.fullmatch(line.partition(": ")[0])]
    return list(dict.fromkeys(lines)), checkpoint_rig is not None or bool(action_convention)


def require_contract(path: str, checkpoint_rig: str | None, action_convention: Mapping[str, Any], rig: Rig) -> bool:
    """Refuse a checkpoint that differs from the rig.

    Returns:
        Whether the checkpoint said anything about its rig; stock checkpoints do not.

    Raises:
        RobosteerError: one line with the first differences.
    """
    lines, known = contract_differences(checkpoint_rig, action_convention, rig)
    if lines:
        more = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
        raise RobosteerError(f"checkpoint {path} does not fit rig {rig.name}: {'; '.join(lines[:3])}{more}")
    return known


def _relevant(ours: Rig, theirs: Rig) -> re.Pattern[str]:
    used = sorted({*ours.policy_cameras.values(), *theirs.policy_cameras.values()})
    cameras = "|".join(map(re.escape, used))
    return re.compile(
        rf"arm\.joints|gripper\.(state_joint|open_position|closed_position)|action\.({'|'.join(_ACTION_FIELDS)})"
        rf"|policy_cameras\..*|cameras\.({cameras})\.(topic|width|height|crop\..*|output_size)"
    )
