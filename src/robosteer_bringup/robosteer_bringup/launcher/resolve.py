"""Finding packages, their launch files and their executables."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from robosteer_bringup.launcher.errors import LaunchError

RUN_ENTRY_POINT = "robosteer_bringup.launcher.run_entry_point"


def with_ament_prefix(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with AMENT_PREFIX_PATH; where it is unset, this Python's prefix is the index."""
    return {"AMENT_PREFIX_PATH": sys.prefix, **{k: v for k, v in environment.items() if v or k != "AMENT_PREFIX_PATH"}}


def prefixes(environment: Mapping[str, str]) -> list[Path]:
    """Return the directories of AMENT_PREFIX_PATH."""
    return [Path(entry) for entry in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if entry]


def packages(environment: Mapping[str, str]) -> dict[str, Path]:
    """Return every package of the ament index with its prefix; earlier prefixes win."""
    found: dict[str, Path] = {}
    for prefix in prefixes(environment):
        markers = prefix / "share/ament_index/resource_index/packages"
        for marker in sorted(markers.iterdir()) if markers.is_dir() else ():
            found.setdefault(marker.name, prefix)
    return found


def package_prefix(package: str, environment: Mapping[str, str]) -> Path:
    """Return the prefix in which a package is installed.

    Raises:
        LaunchError: if no prefix has it.
    """
    known = packages(environment)
    if package in known:
        return known[package]
    near = get_close_matches(package, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "drivers of real hardware need a ROS 2 installation: use ros2 launch"
    raise LaunchError(
        f"package {package}: found in none of AMENT_PREFIX_PATH={environment.get('AMENT_PREFIX_PATH', '')}; {hint}"
    )


def package_share(package: str, environment: Mapping[str, str]) -> Path:
    """Return a package's share directory.

    Raises:
        LaunchError: if the package is not installed, or without its share directory.
    """
    share = package_prefix(package, environment) / "share" / package
    if not share.is_dir():
        raise LaunchError(f"package {package}: found no directory {share}; install the package again (make setup)")
    return share


def launch_file(package: str, name: str, environment: Mapping[str, str]) -> Path:
    """Return the path of a launch file in a package's share directory.

    Raises:
        LaunchError: listing the launch files there are.
    """
    share = package_share(package, environment)
    for candidate in (share / "launch" / name, share / name):
        if candidate.is_file():
            return candidate
    there = sorted(path.name for path in (share / "launch").glob("*.launch.*")) if (share / "launch").is_dir() else []
    wanted = f"one of {', '.join(there)}" if there else "a package with launch files"
    raise LaunchError(f"package {package}: found no launch file {name!r}, expected {wanted}")


def resolve_executable(package: str, executable: str, environment: Mapping[str, str]) -> list[str]:
    """Return the command that runs a package's executable.

    `<prefix>/lib/<package>/<executable>` of the ament index comes first; otherwise the console script of the
    Python distribution that bears the package's name. The latter is run by its entry point rather than by
    `bin/<executable>`, since two packages may both install an executable `cell`.

    Raises:
        LaunchError: listing the executables there are.
    """
    directories = [prefix / "lib" / package for prefix in prefixes(environment)]
    for directory in directories:
        path = directory / executable
        if path.is_file() and os.access(path, os.X_OK):
            return [str(path)]
    scripts = console_scripts(package)
    if executable in scripts:
        return [sys.executable, "-m", RUN_ENTRY_POINT, package, executable]
    there = sorted({*scripts, *(name for directory in directories for name in _programs(directory))})
    wanted = f"one of {', '.join(there)}" if there else "a package with executables"
    raise LaunchError(f"package {package}: found no executable {executable!r}, expected {wanted}")


def console_scripts(package: str) -> dict[str, importlib.metadata.EntryPoint]:
    """Return the console scripts of the distribution with this name; empty when there is none."""
    return entry_points_of(package, "console_scripts")


def entry_points_of(package: str, group: str) -> dict[str, importlib.metadata.EntryPoint]:
    """Return a group of entry points of the distribution with this name; empty when there is none."""
    try:
        distribution = importlib.metadata.distribution(package)
    except (importlib.metadata.PackageNotFoundError, ValueError):  # The latter for an empty name.
        return {}
    return {entry.name: entry for entry in distribution.entry_points if entry.group == group}


def _programs(directory: Path) -> Iterator[str]:
    if directory.is_dir():
        yield from (path.name for path in directory.iterdir() if path.is_file() and os.access(path, os.X_OK))
