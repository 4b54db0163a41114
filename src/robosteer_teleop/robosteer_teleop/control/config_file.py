"""The core's configuration as plain data and back, for the head of a pose log and for episode.json."""

from __future__ import annotations

import dataclasses
from typing import Any

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.control.core import CoreConfig
from robosteer_teleop.control.one_euro import OneEuro
from robosteer_teleop.control.presets import Bounds, MotionLimits, Scaling

_PARTS: dict[str, Any] = {"limits": MotionLimits, "bounds": Bounds, "scaling": Scaling, "smoothing": OneEuro}


def config_to_dict(config: CoreConfig) -> dict[str, Any]:
    """Plain data; `config_from_dict` is the exact inverse."""
    return dataclasses.asdict(config)


def config_from_dict(data: dict[str, Any]) -> CoreConfig:
    """Read what `config_to_dict` wrote.

    Raises:
        RobosteerError: for missing or unknown fields.
    """
    try:
        parts = {name: kind(**_tuples(data[name])) for name, kind in _PARTS.items()}
        return CoreConfig(**{**data, **parts})
    except (KeyError, TypeError) as error:
        raise RobosteerError(f"core configuration: found {error}, expected the fields of this version") from None


def _tuples(part: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in part.items()}
