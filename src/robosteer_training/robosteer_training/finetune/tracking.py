"""Curves for TensorBoard or Weights & Biases, if someone wants them; neither is needed otherwise."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from robosteer_rig.errors import RobosteerError

Tracker = Literal["none", "tensorboard", "wandb"]
_PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}


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


class _Wandb:
    def __init__(self, module: Any, directory: Path, told: Mapping[str, Any]) -> None:
        self._run = module.init(project="robosteer", dir=str(directory), config=dict(told))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


def check_tracker(tracker: Tracker) -> None:
    """Say that a package is missing before any work is done.

    Raises:
        RobosteerError: with the command that installs it.
    """
    if tracker != "none":
        _module(tracker)


def open_curves(tracker: Tracker, directory: Path, told: Mapping[str, Any]) -> Curves:
    """Open the place where curves go.

    Args:
        tracker: which kind.
        directory: for files.
        told: settings, for the record.
    """
    if tracker == "none":
        return _Nowhere()
    directory.mkdir(parents=True, exist_ok=True)
    if tracker == "tensorboard":
        return _TensorBoard(_module(tracker), directory)
    return _Wandb(_module(tracker), directory, told)


def _module(tracker: Tracker) -> Any:
    package = _PACKAGES[tracker]
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise RobosteerError(
            f"--log: found no package {package}, expected it for {tracker}; uv pip install {package}, or --log none"
        ) from error
