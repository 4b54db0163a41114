"""Node `trial_runner`: tries the deployed policy in the simulated cell, scene after scene, and writes what happened.

It only does what a person at the cell would do: reset the scene, arm the guard, enable the policy, watch, stop it.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from PIL import Image
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, JointState

from robosteer_rig.film import in_one_palette
from robosteer_rig.parameters import required_rig
from robosteer_rig.rig import load_rig
from robosteer_sim.nodes.session import JsonTopic, Session, interval_statistics, run_session

_GIF_PERIOD_S = 0.2
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class TrialRunner:
    """Runs the trials that the node's parameters ask for.

    Args:
        node: a fresh node; parameters are declared here.
        stop: set when the process is asked to stop.
    """

    def __init__(self, node: Node, stop: threading.Event) -> None:
        rig = load_rig(required_rig(node.declare_parameter("rig", "").value))
        self.task: str = node.declare_parameter("task", "pick up red cube").value
        self.cells: list[int] = list(node.declare_parameter("grid_cells", [4, 13, 22, 31]).value)
        self.first_seed: int = node.declare_parameter("first_seed", 0).value
        self.time_limit_s: float = float(node.declare_parameter("time_limit_s", 10.0).value)
        self.out = Path(node.declare_parameter("out", "trials.json").value)
        self.session = Session(node, stop)
        self.cell = JsonTopic(node, "/cell/state", 10)
        self.policy = JsonTopic(node, "/robosteer/policy/state", _LATCHED)
        self.guard = JsonTopic(node, "/robosteer/guard/status", _LATCHED)
        self._command_times: list[float] = []
        self._last_action = ""
        self._images: list[Image.Image] = []  # of the present trial, as they came
        self._film: list[Image.Image] = []  # of the trials before, in few colours: a third of the memory
        self._next_image = 0.0
        self._recording = False
        node.create_subscription(JointState, "/robosteer/policy/command", self._note_command, 50)
        camera = rig.cameras[rig.policy_cameras["exterior_image_1_left"]]
        node.create_subscription(CompressedImage, camera.topic, self._note_image, 5)

    def _note_command(self, message: JointState) -> None:
        # The policy repeats each action until the next; header.frame_id counts the actions.
        if self._recording and message.header.frame_id != self._last_action:
            self._command_times.append(time.monotonic())
        self._last_action = message.header.frame_id

    def _note_image(self, message: CompressedImage) -> None:
        now = time.monotonic()
        if self._recording and now >= self._next_image:
            self._next_image = now + _GIF_PERIOD_S
            self._images.append(Image.open(io.BytesIO(bytes(message.data))).convert("RGB"))

    def run(self) -> None:
        """All trials, then the result file and the film beside it."""
        self.session.wait_until(
            lambda: (self.policy.value or {}).get("state") in ("ready", "stopped"), 120.0, "policy state 'ready'"
        )
        results = []
        for number, grid_cell in enumerate(self.cells):
            results.append(self._try(grid_cell, self.first_seed + number))
            self._film += in_one_palette(self._images)
            self._images = []
            outcome = "success" if results[-1]["success"] else "no success"
            print(
                f"trial {number + 1}/{len(self.cells)}: cell {grid_cell}, {outcome}, {results[-1]['duration_s']:.1f} s",
                flush=True,
            )
        self._write(results)

    def _try(self, grid_cell: int, seed: int) -> dict[str, Any]:
        self.session.set_parameters("/cell", task=self.task, grid_cell=grid_cell, seed=seed)
        before = (self.cell.value or {}).get("reset_count", -1)
        self.session.trigger("/cell/reset")
        self.session.wait_until(
            lambda: (self.cell.value or {}).get("reset_count", -1) > before, 10.0, "/cell/state after the reset"
        )
        self.session.switch("/guard/arm", True)
        self._command_times = []
        started = time.monotonic()
        self._recording = True
        self.session.switch("/policy/enable", True)
        try:
            self.session.wait_until(lambda: self._over(started), self.time_limit_s + 5.0, "end of the trial")
        finally:
            self._recording = False
            self.session.switch("/policy/enable", False)
        return {
            "grid_cell": grid_cell,
            "seed": seed,
            "success": bool((self.cell.value or {})["success"]),
            "duration_s": time.monotonic() - started,
            "guard": (self.guard.value or {}).get("state"),
            "commands": interval_statistics(self._command_times),
        }

    def _over(self, started: float) -> bool:
        success = bool((self.cell.value or {}).get("success"))
        return success or time.monotonic() - started > self.time_limit_s

    def _write(self, results: list[dict[str, Any]]) -> None:
        record = {
            "schema": "robosteer.trials/1",
            "task": self.task,
            "successes": sum(r["success"] for r in results),
            "trials": results,
        }
        self.out.parent.mkdir(parents=True, exist_ok=True)
        partial = self.out.with_suffix(".partial")
        partial.write_text(json.dumps(record, indent=2) + "\n")
        os.replace(partial, self.out)
        if self._film:
            first, *rest = self._film
            film = self.out.with_suffix(".gif")
            first.save(film, save_all=True, append_images=rest, duration=int(1000 * _GIF_PERIOD_S), loop=0)


def _perform(node: Node, stop: threading.Event) -> None:
    runner = TrialRunner(node, stop)
    try:
        runner.run()
    finally:
        runner.session.close()


def main() -> int:
    """Entry point of `ros2 run robosteer_sim trial_runner`."""
    return run_session("trial_runner", _perform, "stopped before all trials were done; nothing was written")


if __name__ == "__main__":
    sys.exit(main())
