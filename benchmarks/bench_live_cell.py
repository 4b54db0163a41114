"""Whether the simulated cell keeps real time with three cameras, through real topics, and what it takes of the machine.

    python benchmarks/bench_live_cell.py [--seconds 30]

Starts the cell in a ROS domain of its own and listens to every camera and to the arm. `age_ms` is from the stamp of a
picture, when it was taken, to its arrival; `cores` is the cell's CPU time over wall time, drawing included.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from measure import save
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CompressedImage, JointState

from robosteer_rig.rig import Rig, load_rig

RIG = Path(__file__).parents[1] / "src/robosteer_bringup/config/rigs/sim_panda.yaml"
PATIENCE_S = 60.0


class Listener:
    """Notes stamp and arrival of every message, by stream."""

    def __init__(self, rig: Rig) -> None:
        rclpy.init()
        self.node = rclpy.create_node("listener")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.heard: dict[str, list[tuple[float, float]]] = {}
        for name, camera in rig.cameras.items():
            self._subscribe(CompressedImage, name, camera.topic)
        self._subscribe(JointState, "arm", rig.arm.state_topic)

    def _subscribe(self, kind: type, name: str, topic: str) -> None:
        self.heard[name] = []
        self.node.create_subscription(kind, topic, partial(self._hear, name), 100)

    def _hear(self, name: str, message: Any) -> None:
        stamp = message.header.stamp
        self.heard[name].append((stamp.sec + 1e-9 * stamp.nanosec, time.time()))

    def listen(self, seconds: float, done: Callable[[], bool] = lambda: False) -> None:
        """Listen for so long, or until it is done."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not done():
            self.executor.spin_once(timeout_sec=0.02)


def cpu_s(pid: int) -> float:
    """CPU time of a process, s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def row(stream: str, heard: list[tuple[float, float]], wanted_hz: float) -> dict[str, object]:
    """What came of one stream."""
    stamps, arrivals = np.array(heard).T
    age_ms = 1e3 * (arrivals - stamps)
    return {
        "stream": stream,
        "wanted_hz": wanted_hz,
        "heard_hz": round((len(heard) - 1) / (stamps[-1] - stamps[0]), 2),
        "longest_gap_ms": round(1e3 * float(np.diff(stamps).max()), 1),
        "age_ms": {f"p{p}": round(float(np.percentile(age_ms, p)), 1) for p in (50, 99)},
    }


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="to listen, s")
    options = parser.parse_args()
    os.environ |= {"ROS_DOMAIN_ID": "74", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    rig = load_rig(RIG)
    command = [str(Path(sys.executable).with_name("robosteer")), "run", "robosteer_sim", "cell"]
    environment = {k: v for k, v in os.environ.items() if k != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    cell = subprocess.Popen([*command, "--ros-args", "-p", f"rig:={RIG}"], env=environment)
    try:
        listener = Listener(rig)
        listener.listen(PATIENCE_S, lambda: all(listener.heard.values()))
        listener.listen(2.0)  # The first pictures compile shaders.
        for heard in listener.heard.values():
            heard.clear()
        spent, start = cpu_s(cell.pid), time.monotonic()
        listener.listen(options.seconds)
        cores = (cpu_s(cell.pid) - spent) / (time.monotonic() - start)
    finally:
        cell.send_signal(signal.SIGINT)
        cell.wait(30)
    rates = {name: camera.rate_hz for name, camera in rig.cameras.items()} | {"arm": rig.arm.state_rate_hz}
    rows = [row(name, listener.heard[name], rate) for name, rate in rates.items()]
    save("live_cell", {"seconds": options.seconds, "cores": round(cores, 2), "rows": rows})


if __name__ == "__main__":
    main()
