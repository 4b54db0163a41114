"""An operator's headset as a program holds it: the way by which scripted operators enter through the front door.

The package that serves operators announces a client in the entry-point group `robosteer.headsets`; whoever wants to act
as one asks for it by name, so that neither package imports the other.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from robosteer_rig.errors import RobosteerError

ENTRY_POINT_GROUP = "robosteer.headsets"
BUTTONS = ("A", "B", "STICK")


@runtime_checkable
class Headset(Protocol):
    """A connected headset with one controller in the right hand."""

    def send(
        self,
        position: np.ndarray,
        rotation: np.ndarray,
        *,
        squeeze: float = 0.0,
        trigger: float = 0.0,
        buttons: tuple[str, ...] = (),
    ) -> None:
        """Send one sample of the hand; call 50 to 120 times a second.

        Args:
            position: (3,) m, in axes parallel to the robot's base, any origin.
            rotation: (3, 3) in the same axes.
            squeeze: of the grip, which is the clutch: 0 open ... 1 squeezed.
            trigger: 0 open ... 1 pulled.
            buttons: pressed ones, some of `BUTTONS`.

        Raises:
            RobosteerError: when the connection has ended.
        """
        ...

    @property
    def state(self) -> dict[str, Any]:
        """What the headset shows (docs/reference/teleop-protocol.md, State); empty before the first message."""
        ...

    def close(self) -> None:
        """Take it off."""
        ...


def connect_headset(name: str, connection_file: Path) -> Headset:
    """Connect the client announced under `name` to the server that wrote a connection file.

    Raises:
        RobosteerError: for an unknown name, which lists the installed ones, or when the server refuses.
    """
    found = {e.name: e for e in entry_points(group=ENTRY_POINT_GROUP)}
    if name not in found:
        raise RobosteerError(f"headset: found {name!r}, expected one of {sorted(found)}")
    return found[name].load()(connection_file)
