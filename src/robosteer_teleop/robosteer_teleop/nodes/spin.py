"""Run one node until SIGINT or SIGTERM, so that it always gets to say its last word."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from robosteer_rig.errors import RobosteerError


class StoppableNode(Node):
    """Base of nodes for `run_node`."""

    def stop(self) -> None:
        """Finish while publishers still work."""


def run_node(make_node: Callable[[], StoppableNode], args: Sequence[str] | None = None) -> int:
    """Create and spin a node.

    Own signal handlers, because rclpy's shut the context down first, after which nothing can be published, and
    because two signals in a row (Ctrl-C in a terminal and the launcher's) must not interrupt the shutdown.

    Returns:
        Exit code: 0, or 1 for an error that the user can fix (one line on stderr).
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(args=list(args) if args is not None else None, signal_handler_options=SignalHandlerOptions.NO)
    node: StoppableNode | None = None
    executor = SingleThreadedExecutor()
    try:
        node = make_node()
        executor.add_node(node)
        while rclpy.ok() and not stop.is_set():
            executor.spin_once(timeout_sec=0.1)
    except RobosteerError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if node is not None:
            node.stop()
        executor.shutdown()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
