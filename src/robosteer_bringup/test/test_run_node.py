"""`robosteer run`: one node, started by hand.

Pins: a complaint about a missing parameter in the syntax of launch files (`rig:=PATH`), which `robosteer run` passes on
to a node that does not read it; a node that waits a minute for a file whose name it was never given.
"""

import os
import subprocess
import sys

import pytest

RUN = [sys.executable, "-m", "robosteer_bringup.cli", "run"]
NODES = {
    "robosteer_sim": ("cell", "scripted_operator", "trial_runner"),
    "robosteer_policy": ("guard", "gripper", "homing", "policy", "watchdog"),
    "robosteer_teleop": ("recorder", "teleop"),
}
ONE_OF_EACH = {package: names[:1] for package, names in NODES.items()}


@pytest.fixture
def started(tmp_path):
    """Start nodes with the same arguments, all at once; return what each says before it ends, and its code."""

    def start(nodes: dict[str, tuple[str, ...]], *arguments: str) -> dict[str, tuple[str, int]]:
        environment = os.environ | {"ROS_LOG_DIR": str(tmp_path), "ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}
        running = {
            name: subprocess.Popen(
                [*RUN, package, name, *arguments], env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True
            )
            for package, names in nodes.items()
            for name in names
        }
        return {name: (node.communicate(timeout=120)[1], node.returncode) for name, node in running.items()}

    return start


def test_what_is_missing_is_asked_for_in_the_words_of_robosteer_run(started) -> None:
    ending = "expected the path of a rig file; add --ros-args -p rig:=PATH\n"
    for name, (said, code) in started(NODES, "rig:=launch_syntax.yaml").items():
        assert said.removeprefix(f"{name}: ") == f"parameter rig: found none, {ending}", name
        assert code == 1
    # Typed as it was asked for, it arrives.
    for name, (said, code) in started(ONE_OF_EACH, "--ros-args", "-p", "rig:=nothing.yaml").items():
        assert said.removeprefix(f"{name}: ").startswith("rig nothing.yaml: found no such file"), name
        assert code == 1
