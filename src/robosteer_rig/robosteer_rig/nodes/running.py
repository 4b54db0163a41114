"""Start and end a process of ROS nodes: one line for what the user can fix, and last words while they can be said."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from robosteer_rig.errors import RobosteerError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StoppableNode(Node):
    """A node that has something to say, or to free, before it ends.

    Attributes:
        failure: one line for the user when the node cannot go on; empty otherwise.
    """

    failure = ""

    def finish(self) -> None:
        """Say the last words; called once, after the last callback, while the context is still valid."""


@contextmanager
def ros_process(args: Sequence[str] | None = None) -> Iterator[threading.Event]:
    """A ROS context with signal handlers of our own.

    rclpy's handlers invalidate the context first, so that a node can no longer publish its last words; ours only set
    the event that this yields. A second signal (a terminal and a launcher both send one) does no harm.

    Args:
        args: of the process; None means its command line.

    Raises:
        RobosteerError: for ROS arguments or ROS_... variables that ROS does not understand, and for a parameter of
            another type or range, inside the block.
    """
    asked = threading.Event()
    for number in _SIGNALS:
        signal.signal(number, lambda *_: asked.set())
    try:
        try:
            rclpy.init(args=None if args is None else list(args), signal_handler_options=SignalHandlerOptions.NO)
        except RuntimeError as error:  # rcl's errors are all of this class.
            raise RobosteerError(
                f"ROS: cannot start ({' '.join(str(error).split())}); write parameters as --ros-args -p NAME:=VALUE, "
                "and check the variables ROS_... of the environment"
            ) from None
        yield asked
    except ParameterException as error:
        hint = "; write 3.0 for 3" if "'DOUBLE'" in str(error) else ""
        raise RobosteerError(f"parameter: {error}{hint}") from None
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        rclpy.try_shutdown(uninstall_handlers=False)


def run_node(make_node: Callable[[], StoppableNode], args: Sequence[str] | None = None) -> int:
    """Spin a node until SIGINT, SIGTERM or its own failure.

    Args:
        make_node: makes it, inside the context.
        args: of the process; None means its command line.

    Returns:
        The exit code: 0, or 1 after an error that the user can fix, which is printed as one line.
    """
    code = 0
    try:
        with ros_process(args) as asked:
            _spin(make_node(), asked)
    except RobosteerError as error:
        print(error, file=sys.stderr)
        code = 1
    return _leave(code)


def _spin(node: StoppableNode, asked: threading.Event) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not asked.is_set() and not node.failure:
            executor.spin_once(timeout_sec=0.1)
    finally:
        # Also after an exception in a callback: whatever went wrong, the arm must not keep the last command.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        try:
            node.finish()
        finally:
            executor.shutdown()
            node.destroy_node()
    if node.failure:
        raise RobosteerError(node.failure)


def _leave(code: int) -> int:
    """End at once when a worker is still inside a long computation, which no thread can interrupt."""
    if any(thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code
