"""Versions of the drivers and controllers that are installed here, from their package.xml."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.etree import ElementTree

from robosteer_policy.doctor import Finding, judge


@dataclasses.dataclass(frozen=True)
class Package:
    """A package beside which RoboSteer runs on hardware.

    Attributes:
        name: of the ROS package.
        least: oldest version that works; empty when every one does.
        why: what is wrong with older ones.
    """

    name: str
    least: str = ""
    why: str = ""


PACKAGES = (
    Package("controller_manager"),
    Package("franka_hardware"),
    Package("velocity_controllers"),
    Package("crisp_controllers", "2.0.0", "its orientation filter lets targets jump"),
    Package("zed_wrapper", "5.1.0", "its topics have other names"),
)


def installed(name: str, prefixes: Iterable[str]) -> str:
    """Version of a ROS package, or an empty string; the first prefix wins, as for ROS.

    Args:
        name: of the package.
        prefixes: of installations, in the order of AMENT_PREFIX_PATH.
    """
    for prefix in prefixes:
        path = Path(prefix) / "share" / name / "package.xml"
        try:
            return (ElementTree.parse(path).findtext("version") or "").strip()  # noqa: S314 - an installed file
        except FileNotFoundError:
            continue
        except ElementTree.ParseError:
            return ""
    return ""


def older(version: str, least: str) -> bool:
    """Whether a version such as 1.4.2 comes before another; compared number by number."""
    numbers = ([int(number) for number in re.findall(r"\d+", text)] for text in (version, least))
    pairs = list(itertools.zip_longest(*numbers, fillvalue=0))
    return [a for a, _ in pairs] < [b for _, b in pairs]


def findings(environment: Mapping[str, str], packages: Iterable[Package] = PACKAGES) -> list[Finding]:
    """One line for each package: its version, or that it is not installed on this computer."""
    prefixes = [prefix for prefix in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    found = []
    for package in packages:
        version, what = installed(package.name, prefixes), f"{package.name} version"
        if not version:
            fix = f"if it runs on another computer, ask there: ros2 pkg xml -t version {package.name}"
            found.append(Finding("controller", what, "warn", "not installed here", fix))
        else:
            fix = f"install {package.least} or later: {package.why}"
            found.append(judge("controller", what, not older(version, package.least), version, fix))
    return found
