"""Where an episode comes from: the commit of this software, the devices' serial numbers, the calibration."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import Rig
from robosteer_teleop.survey import sha256

_PATIENCE_S = 5.0
_DISTRIBUTION = "robosteer_teleop"


@cache
def source_commit() -> str:
    """The git commit of the running code, with "-dirty" when files were changed; "" when it is not known.

    Known for an installation from a git address (PEP 610) and for code that runs from a checkout.
    """
    try:
        direct = distribution(_DISTRIBUTION).read_text("direct_url.json")
    except PackageNotFoundError:
        direct = None
    installed = json.loads(direct or "{}").get("vcs_info", {}).get("commit_id", "")
    return installed or commit_of(Path(__file__))


def commit_of(file: Path) -> str:
    """The checked-out commit of a file that git tracks; "" for any other file, also one that lies in a checkout."""
    if not _git(file.parent, "ls-files", "--error-unmatch", file.name):
        return ""
    return _git(file.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(directory: Path, *arguments: str) -> str:
    command = ["git", "-C", str(directory), *arguments]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""  # no git here, or a disk that hangs: the versions still tell
    return found.stdout.strip() if found.returncode == 0 else ""


def describe_hardware(rig: Rig, serials: str, calibration: str) -> dict[str, Any]:
    """The field `hardware` of episode.json.

    Args:
        rig: names the devices.
        serials: "arm=... gripper=... CAMERA=..." with the rig's cameras; empty for none.
        calibration: path of the file that the cameras were calibrated into; empty for none.

    Raises:
        RobosteerError: for an unknown device or an unreadable file.
    """
    found: dict[str, Any] = {}
    devices = ("arm", "gripper", *rig.cameras)
    for pair in serials.split():
        device, _, serial = pair.partition("=")
        if device not in devices or not serial:
            raise RobosteerError(f"serials: found {pair!r}, expected DEVICE=SERIAL with one of {', '.join(devices)}")
        found.setdefault("serials", {})[device] = serial
    if calibration:
        path = Path(calibration).expanduser()
        try:
            found["calibration"] = {"file": path.name, "sha256": sha256(path)}
        except OSError as error:
            raise RobosteerError(f"calibration {path}: found {error.strerror}, expected a file; correct it") from None
    return found
