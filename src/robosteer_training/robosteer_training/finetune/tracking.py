"""Curves for TensorBoard, if someone wants them; its package is not needed otherwise."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from robosteer_rig.errors import RobosteerError

Tracker = Literal["none", "tensorboard"]
_PACKAGE = "tensorboardX"


class Curves(Protocol):
    """Where numbers go."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add one point to each named curve."""
        ...

    def close(self) -> None:
        """Write out what is left."""
        ...


class _Nowhere:
    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Drop them."""

    def close(self) -> None:
        """Nothing is open."""


class _TensorBoard:
    def __init__(self, module: Any, directory: Path) -> None:
        self._writer = module.SummaryWriter(str(directory))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


def check_tracker(tracker: Tracker) -> None:
    """Say that a package is missing before any work is done.

    Raises:
        RobosteerError: with the command that installs it.
    """
    if tracker != "none":
        _module()


def open_curves(tracker: Tracker, directory: Path) -> Curves:
    """Open the place where curves go.

    Args:
        tracker: which kind.
        directory: for files.
    """
    if tracker == "none":
        return _Nowhere()
    directory.mkdir(parents=True, exist_ok=True)
    return _TensorBoard(_module(), directory)


def _module() -> Any:
    try:
        return importlib.import_module(_PACKAGE)
    except ImportError as error:
        raise RobosteerError(
            f"--log: found no package {_PACKAGE}, expected it for tensorboard; uv pip install {_PACKAGE}, or --log none"
        ) from error
