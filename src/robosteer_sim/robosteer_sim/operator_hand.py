"""The scripted operator's hand on a headset's controller: where it is, what it squeezes and presses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from robosteer_rig.headset import Headset
from robosteer_sim.impedance import turned

PRESS_FRAMES = 4
REGRIP_FRAMES = 8
"""An operator whose arm does not follow lets go for so many frames and squeezes again."""
PATIENCE_FRAMES = 25
TRIGGER_GAIN = 1.5
"""The trigger closes the gripper at two thirds of its way."""


class OperatorHand:
    """Moves with a twist while the clutch holds.

    Attributes:
        gripping: the operator wants the clutch closed.
        regrips: how often the clutch was lost and taken again.
    """

    def __init__(self, headset: Headset) -> None:
        """Take the controller.

        Args:
            headset: connected.
        """
        self._headset = headset
        self._position = np.array([0.0, 0.0, 1.2])
        self._rotation = np.eye(3)
        self._trigger = 0.0
        self._pressed: tuple[str, int] = ("", 0)
        self._open_frames = REGRIP_FRAMES
        self._waiting = 0
        self.gripping = False
        self.regrips = 0

    @property
    def state(self) -> Mapping[str, Any]:
        """What the headset shows."""
        return self._headset.state

    @property
    def engaged(self) -> bool:
        """Whether the arm follows."""
        return self.gripping and bool(self.state.get("engaged"))

    def press(self, button: str) -> None:
        """Press a button for a moment, beginning with the next frame."""
        self._pressed = (button, PRESS_FRAMES)

    def close_gripper(self, closed: float) -> None:
        """Pull the trigger: 0 open ... 1 closed."""
        self._trigger = closed / TRIGGER_GAIN

    def move(self, twist: np.ndarray, period_s: float) -> None:
        """One frame: go on by a twist, and send.

        Args:
            twist: (6,) m/s and rad/s in the robot's axes; the hand rests while the arm does not follow.
            period_s: since the last frame, s.
        """
        if self.engaged:
            self._position = self._position + twist[:3] * period_s
            self._rotation = turned(twist[3:] * period_s) @ self._rotation
        button, left = self._pressed
        self._pressed = (button, max(left - 1, 0))
        self._headset.send(
            self._position,
            self._rotation,
            squeeze=self._squeeze(),
            trigger=self._trigger,
            buttons=(button,) if left else (),
        )

    def take_off(self) -> None:
        """Leave."""
        self._headset.close()

    def _squeeze(self) -> float:
        """1 while gripping; after some frames without effect, open for a moment and squeeze again."""
        if not self.gripping:
            self._waiting = 0
            self._open_frames = max(self._open_frames - 1, 0)
            return 0.0
        if self._open_frames:
            self._open_frames -= 1
            return 0.0
        self._waiting = 0 if self.state.get("engaged") else self._waiting + 1
        if self._waiting > PATIENCE_FRAMES:
            self._open_frames, self._waiting = REGRIP_FRAMES, 0
            self.regrips += 1
        return 1.0
