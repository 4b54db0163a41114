"""How evenly the deployed policy acts: intervals of its 15 Hz actions, with inference running, through real topics.

Starts `robosteer deploy sim:=true` in a ROS domain of its own and listens. Run it where nothing else decides who is
scheduled: `chrt -r 5 python benchmarks/bench_policy_jitter.py`.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rclpy
from measure import save
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool

NANO = Path(__file__).parents[1] / "src/robosteer_training/checkpoints/nano"
PATIENCE_S = 300.0


class Listener:
    """Notes when each action begins, and keeps the policy enabled."""

    def __init__(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("jitter")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.node.create_subscription(JointState, "/robosteer/policy/command", self._hear, 200)
        self.clients = [self.node.create_client(SetBool, name) for name in ("/guard/arm", "/policy/enable")]
        self.stamps_s: list[float] = []
        self.runs = 0
        self._last, self._heard_s, self._asked_s = "", 0.0, 0.0

    def _hear(self, message: JointState) -> None:
        now = time.monotonic()
        if message.header.frame_id != self._last:
            pause = now - self._heard_s > 1.0
            self.runs += pause
            # Stamps of issue, so that the listener's own delays do not count; NaN separates runs.
            stamp = message.header.stamp
            self.stamps_s += [float("nan")] * pause + [stamp.sec + 1e-9 * stamp.nanosec]
        self._last, self._heard_s = message.header.frame_id, now

    def listen(self, seconds: float) -> None:
        """Listen; arm and enable again where a run has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)
            now = time.monotonic()
            if now - self._heard_s > 1.0 and now - self._asked_s > 2.0:
                self._asked_s = now
                for client in self.clients:
                    if client.service_is_ready():
                        client.call_async(SetBool.Request(data=True))


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="of acting, s")
    parser.add_argument("--checkpoint", default=str(NANO))
    options = parser.parse_args()
    os.environ |= {"ROS_DOMAIN_ID": "73", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    robosteer = Path(sys.executable).with_name("robosteer")
    command = [str(robosteer), "deploy", "sim:=true", f"checkpoint:={options.checkpoint}", "auto_enable:=true"]
    environment = {k: v for k, v in os.environ.items() if k != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    stack = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        listener = Listener()
        start = time.monotonic()
        while len(listener.stamps_s) < 30 and time.monotonic() - start < PATIENCE_S:
            listener.listen(0.5)
        listener.stamps_s.clear()
        listener.listen(options.seconds)
    finally:
        stack.send_signal(signal.SIGINT)
        stack.wait(60)
    intervals = np.diff(listener.stamps_s) * 1e3
    intervals = intervals[np.isfinite(intervals)]
    p50, p99 = np.percentile(intervals, [50, 99])
    late = np.abs(intervals - 1000 / 15)
    save(
        "policy_jitter",
        {
            "actions": len(intervals),
            "runs": listener.runs,
            "interval_ms": {"p50": round(p50, 2), "p99": round(p99, 2), "max": round(intervals.max(), 2)},
            "jitter_ms": {"p99": round(float(np.percentile(late, 99)), 2), "max": round(float(late.max()), 2)},
        },
    )


if __name__ == "__main__":
    main()
