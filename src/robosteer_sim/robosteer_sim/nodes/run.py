"""Start and end a process with one node, the same way on every ROS 2 release."""

from __future__ import annotations

import signal
import sys
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from robosteer_rig.errors import RobosteerError


class StoppableNode(Node):
    """A node that can be run by `run_node`."""

    @abstractmethod
    def stop(self) -> None:
        """Say the last words and free what the node holds; the ROS context is still valid."""


@contextmanager
def ros_process() -> Iterator[threading.Event]:
    """A ROS context with signal handlers of our own.

    rclpy's handlers invalidate the context first, so that a node can no longer publish its last words; ours only set
    the event that this yields. A second signal (a terminal and a launcher both send one) does no harm.
    """
    rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    stop = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        signal.signal(number, lambda *_: stop.set())
    try:
        yield stop
    finally:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        rclpy.try_shutdown(uninstall_handlers=False)


def run_node(make_node: Callable[[], StoppableNode]) -> int:
    """Spin a node until SIGINT or SIGTERM.

    Returns:
        0, or 1 after a problem that the user can fix, which is printed as one line.
    """
    with ros_process() as stop:
        try:
            node = make_node()
        except RobosteerError as problem:
            print(problem, file=sys.stderr, flush=True)
            return 1
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            while rclpy.ok() and not stop.is_set():
                executor.spin_once(timeout_sec=0.1)
        finally:
            node.stop()
            executor.shutdown()
            node.destroy_node()
    return 0
