"""What the teleop node tells the recorder: the session's settings, and the state of the core. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from robosteer_teleop.control.config_file import config_to_dict
from robosteer_teleop.control.core import Target
from robosteer_teleop.control.frames import Pose
from robosteer_teleop.control.joint_velocity import JointMonitor
from robosteer_teleop.steering import Steering
from robosteer_teleop.teleop_record import STATUS_SCHEMA

SESSION_SCHEMA = "robosteer.teleop_session/1"


def describe_session(
    steering: Steering, settings: Mapping[str, Any], link: Mapping[str, Any], controller: Mapping[str, Any]
) -> dict[str, Any]:
    """What holds until further notice, for episode.json.

    Args:
        steering: the operator's link and the core.
        settings: of the node.
        link: state of the link; its clock offset is rounded, so that it counts as a change when it is one.
        controller: parameters that were read back from the controller.
    """
    core = steering.core.core
    config = config_to_dict(core.config)
    offset_s = link.get("clock_offset_s")
    return {
        "schema": SESSION_SCHEMA,
        **settings,
        "yaw_deg": None if core.alignment is None else round(math.degrees(core.alignment.yaw), 2),
        "scaling": dataclasses.asdict(core.scaling),
        "core": config,
        "core_sha256": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest(),
        "clock_offset_s": None if offset_s is None else round(offset_s, 2),
        "controller_parameters": dict(controller),
    }


def describe_status(steering: Steering, target: Target, measured: Pose | None, joints: JointMonitor) -> dict[str, Any]:
    """The state of this moment, for the bag."""
    core, counts = steering.core.core, steering.core.core.gate.counts
    lead_mm = None
    if target.motion is not None and measured is not None:
        lead_mm = round(1e3 * float(np.linalg.norm(target.motion.pose.position - measured.position)), 2)
    return {
        "schema": STATUS_SCHEMA,
        "operator": steering.operator,
        "enabled": core.enabled,
        "engaged": target.engaged,
        "need_press": core.waiting_for_release,
        "fault": core.fault_reason,
        "limiters": target.flags.names(),
        "pose_age_s": steering.pose_age_s,
        "lead_mm": lead_mm,
        "manipulability": round(joints.manipulability, 4),
        "joint_margin_rad": round(joints.margin_rad, 3),
        "counters": {**dataclasses.asdict(counts), "openings": core.openings},
    }
