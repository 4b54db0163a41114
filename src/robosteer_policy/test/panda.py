"""Limits of the Franka Emika Robot (datasheet), for tests that need an arm but no rig file; and where that file is."""

from pathlib import Path

import numpy as np

from robosteer_policy.guard.limits import Limits

RIG = Path(__file__).parents[2] / "robosteer_bringup/config/rigs/sim_panda.yaml"
JOINTS = tuple(f"panda_joint{i}" for i in range(1, 8))
READY = np.array([0.0, -0.628, 0.0, -2.513, 0.0, 1.885, 0.0])
POSITION_MIN = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
POSITION_MAX = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
VELOCITY_MAX = np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61])
ACCELERATION_MAX = np.array([15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0])
JERK_MAX = np.array([7500.0, 3750.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0])


def limits(jerk_max: np.ndarray = JERK_MAX, period_s: float = 0.01) -> Limits:
    return Limits(POSITION_MIN, POSITION_MAX, VELOCITY_MAX, ACCELERATION_MAX, jerk_max, period_s)
