"""Do the derived actions reproduce the motion? Integrate them and compare where the tool ends up."""

from __future__ import annotations

import dataclasses

import numpy as np

from robosteer_rig.errors import RobosteerError
from robosteer_rig.kinematics import forward_kinematics


@dataclasses.dataclass(frozen=True)
class ReplayError:
    """Distances between the replayed tool and the measured one, m.

    One step: each action from the measured joints, as a policy that sees the robot acts. Open loop: all actions from
    the first frame's joints on, so that errors add up.

    Attributes:
        one_step_median_m: over the frames.
        one_step_max_m: over the frames.
        open_loop_median_m: over the frames.
        open_loop_max_m: over the frames.
    """

    one_step_median_m: float
    one_step_max_m: float
    open_loop_median_m: float
    open_loop_max_m: float


def replay_error(
    measured: np.ndarray, actions: np.ndarray, *, unit_rad_per_s: float, rate_hz: float, tool: np.ndarray | None = None
) -> ReplayError:
    """Replay one episode's actions.

    Args:
        measured: (n, 7) joint positions at the frames, rad.
        actions: (n, 7 or more) normalised joint velocities u; the last frame's has no successor to compare with.
        unit_rad_per_s: joint velocity of u = 1.
        rate_hz: of the frames.
        tool: (4, 4) pose of the tool in the flange frame; None compares the flange.

    Raises:
        RobosteerError: for fewer than two frames.
    """
    if len(measured) < 2 or len(actions) != len(measured):
        raise RobosteerError(f"replay: found {len(measured)} frames, expected at least 2 with an action each")
    measured = np.asarray(measured, dtype=np.float64)
    steps = np.asarray(actions, dtype=np.float64)[:-1, :7] * unit_rad_per_s / rate_hz
    truth = forward_kinematics(measured[1:], tool)[:, :3, 3]
    one_step = forward_kinematics(measured[:-1] + steps, tool)[:, :3, 3]
    open_loop = forward_kinematics(measured[0] + np.cumsum(steps, axis=0), tool)[:, :3, 3]
    near, far = (np.linalg.norm(path - truth, axis=1) for path in (one_step, open_loop))
    return ReplayError(float(np.median(near)), float(near.max()), float(np.median(far)), float(far.max()))
