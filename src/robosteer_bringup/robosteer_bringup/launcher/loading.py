"""Reading a Python launch file."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

from robosteer_bringup.launcher.description import LaunchDescription
from robosteer_bringup.launcher.errors import LaunchError, UnsupportedConstructError


def load_launch_file(path: Path) -> LaunchDescription:
    """Execute a launch file and return its description.

    The launch API must have been installed before (`importer.launch_api`).

    Args:
        path: The `*.launch.py` file.

    Raises:
        LaunchError: if the file is missing, is not Python, fails, or returns no description.
        UnsupportedConstructError: if it uses something outside the subset.
    """
    if path.suffix != ".py":
        raise UnsupportedConstructError(f"launch file {path.name}")
    if not path.is_file():
        raise LaunchError(f"launch file {path}: found no such file; check the name")
    module = ModuleType(f"launch_file_{path.stem.replace('.', '_')}")
    module.__file__ = str(path)
    try:
        _execute(module, path)
        generate = getattr(module, "generate_launch_description", None)
        if generate is None:
            raise LaunchError(f"launch file {path}: found no generate_launch_description(), expected one")
        description = generate()
    except LaunchError:
        raise
    except Exception as error:  # Whatever user code raises becomes one line with its place.
        raise LaunchError(_one_line(path, error)) from error
    if not isinstance(description, LaunchDescription):
        raise LaunchError(f"launch file {path}: found {description!r}, expected a LaunchDescription")
    return description


def _execute(module: ModuleType, path: Path) -> None:
    # Byte code beside the launch file would litter a share directory, which may be read-only besides.
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        SourceFileLoader(module.__name__, str(path)).exec_module(module)
    finally:
        sys.dont_write_bytecode = before


def _one_line(path: Path, error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"launch file {path}, line {error.lineno}: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where = f"launch file {path}" + (f", line {lines[-1]}" if lines else "")
    hint = ""
    if isinstance(error, ModuleNotFoundError) and error.name and importlib.util.find_spec(error.name) is None:
        hint = "; it needs a ROS 2 installation: use ros2 launch"
    return f"{where}: {type(error).__name__}: {error}{hint}"
