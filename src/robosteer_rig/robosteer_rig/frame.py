"""One aligned time step: what the robot saw and felt at t_k, the same object live, offline and in simulation."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Frame:
    """Everything known at one time step, already cropped and resized for the policy.

    Attributes:
        stamp_ns: t_k, the time that this frame stands for, in ns of the sensors' clock.
        images: camera name of the rig -> uint8 RGB (h, w, 3), cropped and resized as the rig file says.
        joint_position: (7,) rad, in the rig's joint order.
        joint_velocity: (7,) measured, rad/s. Never an action.
        gripper_position: 0 open ... 1 closed.
        ages_ns: stream name -> t_k minus the stamp of the message used, in ns; never negative.
        stale: names of streams whose age exceeds the rig's limit; empty in a usable frame.
    """

    stamp_ns: int
    images: dict[str, np.ndarray]
    joint_position: np.ndarray
    joint_velocity: np.ndarray
    gripper_position: float
    ages_ns: dict[str, int] = dataclasses.field(default_factory=dict)
    stale: tuple[str, ...] = ()
