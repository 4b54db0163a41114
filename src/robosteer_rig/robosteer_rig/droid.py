"""From a frame to the observation that openpi's DROID policies take, the same live, offline and in simulation."""

from __future__ import annotations

from typing import Any

import numpy as np

from robosteer_rig.frame import Frame
from robosteer_rig.rig import Rig


def state_vector(frame: Frame) -> np.ndarray:
    """(8,) float32: seven joint positions in rad, then the gripper (0 open ... 1 closed)."""
    return np.concatenate([frame.joint_position, [frame.gripper_position]]).astype(np.float32)


def observation_from_row(images: dict[str, np.ndarray], state: np.ndarray, rig: Rig, prompt: str) -> dict[str, Any]:
    """Build the observation from a dataset row.

    Args:
        images: camera name -> (s, s, 3) uint8 RGB.
        state: (8,) as `state_vector` makes it.
        rig: names which camera is which image of the policy.
        prompt: the instruction.

    Returns:
        "observation/<image key>" (s, s, 3) uint8 for every policy camera, "observation/joint_position" (7,) float32
        rad, "observation/gripper_position" (1,) float32, "prompt".
    """
    state = np.asarray(state, dtype=np.float32)
    views = {f"observation/{key}": images[camera] for key, camera in rig.policy_cameras.items()}
    return {
        **views,
        "observation/joint_position": state[:7],
        "observation/gripper_position": state[7:8],
        "prompt": prompt,
    }


def observation(frame: Frame, rig: Rig, prompt: str) -> dict[str, Any]:
    """Build the observation from a live frame; see `observation_from_row` for keys and shapes."""
    return observation_from_row(frame.images, state_vector(frame), rig, prompt)
