"""What recorder and teleop would refuse after their start, for a launcher that asks (`robosteer.launch_checks`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robosteer_rig.errors import RobosteerError
from robosteer_rig.places import require_writable_directory
from robosteer_rig.rig import load_rig


def recorder(parameters: Mapping[str, Any]) -> None:
    """A rig file, a place for episodes, devices that the rig has, a calibration that can be read.

    Raises:
        RobosteerError: naming what is not so.
    """
    from robosteer_teleop.provenance import describe_hardware

    rig, directory = load_rig(parameters.get("rig", "")), parameters.get("directory", "demos")
    if not directory:
        raise RobosteerError("directory: found '', expected where episodes go; say out:=...")
    require_writable_directory(Path(directory).expanduser(), "directory")
    describe_hardware(rig, parameters.get("serials", ""), parameters.get("calibration", ""))


def teleop(parameters: Mapping[str, Any]) -> None:
    """A rig file, limits that exist, an output that is guarded or accepted as it is.

    Raises:
        RobosteerError: naming what is not so.
    """
    from robosteer_teleop.control.presets import LIMITS, choose
    from robosteer_teleop.output import JOINT_VELOCITY, require_output

    load_rig(parameters.get("rig", ""))
    choose(LIMITS, parameters.get("limits", "teach"), "limits")
    require_output(parameters.get("output", JOINT_VELOCITY), unguarded=parameters.get("unguarded", False))
