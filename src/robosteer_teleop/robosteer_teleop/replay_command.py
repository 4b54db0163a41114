"""`robosteer teleop replay`: run a pose log through the control core and compare every target, bit for bit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import tyro


@dataclasses.dataclass(frozen=True)
class ReplayLog:
    """Run a pose log through the control core; exit code 1 when a target differs from the recorded one."""

    path: tyro.conf.Positional[Path]
    """Pose log of the teleop node."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """Replay and report.

        Raises:
            RobosteerError: for a file that is no pose log.
        """
        from robosteer_teleop.pose_log import replay

        found = replay(self.path)
        same = found.first_difference is None
        if self.json:
            print(json.dumps(dataclasses.asdict(found)))
        else:
            verdict = "every target equal, bit for bit" if same else f"target {found.first_difference} differs first"
            print(f"{found.ticks} ticks, {found.frames} frames, engaged {found.engaged_s:.1f} s: {verdict}")
        return 0 if same else 1
