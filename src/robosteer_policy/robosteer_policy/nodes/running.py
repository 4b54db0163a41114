"""Run one node so that it ends cleanly: its last words are spoken while the context is still valid."""

from __future__ import annotations

import os
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
    """A node that has something to say before it ends.

    Attributes:
        failure: one line for the user when the node cannot go on; empty otherwise.
    """

    failure = ""

    def finish(self) -> None:
        """Say the last words; called once, after the last callback, while the context is still valid."""


def run_node(make_node: Callable[[], StoppableNode], args: Sequence[str] | None = None) -> int:
    """Spin a node until SIGINT, SIGTERM or its own failure.

    rclpy's own signal handlers invalidate the context first and so forbid a last command; these do not. A second
    signal (a terminal's Ctrl-C plus the launcher's SIGINT) changes nothing.

    Returns:
        The exit code: 0, or 1 after an error that the user can fix, which is printed as one line.
    """
    rclpy.init(args=list(args) if args is not None else None, signal_handler_options=SignalHandlerOptions.NO)
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    try:
        node = make_node()
    except RobosteerError as error:
        rclpy.try_shutdown()
        sys.stderr.write(f"{error}\n")
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not asked.is_set() and not node.failure:
            executor.spin_once(timeout_sec=0.1)
    finally:
        # Also after an exception in a callback: whatever went wrong, the arm must not keep the last command.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        try:
            node.finish()
        finally:
            executor.shutdown()
            node.destroy_node()
            rclpy.try_shutdown()
    if node.failure:
        sys.stderr.write(f"{node.failure}\n")
    return _leave(1 if node.failure else 0)


def _leave(code: int) -> int:
    """End at once when a worker is still inside a long computation, which no thread can interrupt."""
    alive = [t for t in threading.enumerate() if t is not threading.main_thread() and t.daemon]
    if alive:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code
