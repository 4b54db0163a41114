"""The node `keys`: a terminal in place of the controller's buttons; the same commands by single keys."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator

from rclpy.clock import Clock
from rclpy.clock_type import ClockType

from robosteer_rig.nodes.running import StoppableNode, run_node
from robosteer_teleop.buttons import KEYS
from robosteer_teleop.nodes.recorder_link import RecorderLink

READ_PERIOD_S = 0.05


@contextlib.contextmanager
def single_keys() -> Iterator[None]:
    """Let a terminal hand over every key at once; a pipe needs nothing."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


class KeysNode(StoppableNode):
    """Reads keys and sends commands; prints what the recorder says."""

    def __init__(self) -> None:
        """Connect to the recorder."""
        super().__init__("keys")
        self._recorder = RecorderLink(self, lambda reason: print(reason, flush=True))
        self._shown = ""
        print("  ".join(f"{'space' if key == ' ' else key}: {command}" for key, command in KEYS.items()), flush=True)
        self.create_timer(READ_PERIOD_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _look(self) -> None:
        status = self._recorder.status
        if status and status["state"] != self._shown:
            self._shown = status["state"]
            counts = f"{status['kept']} kept, {status['discarded']} discarded"
            print(f"{self._shown}: episode {status['episode']}, {counts}", flush=True)
        if status and select.select([sys.stdin], [], [], 0.0)[0]:
            # Not sys.stdin.read: what it buffers, select does not see, and a second key would wait for a third.
            for key in os.read(sys.stdin.fileno(), 64).decode(errors="replace"):
                if key in KEYS:
                    self._recorder.send(KEYS[key])


def main() -> int:
    """Run the node."""
    with single_keys():
        return run_node(KeysNode)
