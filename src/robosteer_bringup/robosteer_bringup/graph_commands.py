"""`robosteer service` and `robosteer topic`: talk to a running stack, in the words of ros2 service and ros2 topic."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from robosteer_rig.errors import RobosteerError

if TYPE_CHECKING:
    from robosteer_bringup.nodes.graph import Visitor

PATIENCE_S = 10.0


def service(argv: Sequence[str]) -> int:
    """Call a service of a running stack (the syntax of ros2 service call)."""
    parser = _parser("service", """service call /guard/arm std_srvs/srv/SetBool "{data: true}\"""")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="{call}")
    call = verbs.add_parser("call", help="call a service once; exit code 1 when it answers with success: false")
    call.add_argument("name", help="the service, such as /guard/arm")
    call.add_argument("type", help="its type, such as std_srvs/srv/SetBool")
    call.add_argument("values", nargs="?", default="{}", help='fields of the request as YAML (default: "{}")')
    _add_timeout(call)
    given = parser.parse_args(argv)
    values = _yaml(given.values)
    with _visit(given.timeout) as visitor:
        answer = visitor.call(given.name, given.type, values)
    print(_text(answer), end="")
    return 0 if answer.get("success", True) else 1


def topic(argv: Sequence[str]) -> int:
    """Listen to a topic of a running stack, or say something on it (the syntax of ros2 topic echo and pub)."""
    parser = _parser("topic", "topic echo /policy/steer/state")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="{echo,pub}")
    echo = verbs.add_parser("echo", help="print every message of a topic as YAML, until Ctrl-C")
    echo.add_argument("name", help="the topic, such as /policy/steer/state")
    echo.add_argument("--once", action="store_true", help="print one message and stop")
    _add_timeout(echo)
    pub = verbs.add_parser("pub", help="publish one message, as soon as somebody listens")
    pub.add_argument("--once", action="store_true", help="accepted for the sake of ros2 topic pub; it is always once")
    pub.add_argument("name", help="the topic, such as /policy/steer/set")
    pub.add_argument("type", help="its type, such as std_msgs/msg/String")
    pub.add_argument("values", nargs="?", default="{}", help='fields of the message as YAML (default: "{}")')
    _add_timeout(pub)
    given = parser.parse_args(argv)
    if given.verb == "pub":
        values = _yaml(given.values)
        with _visit(given.timeout) as visitor:
            visitor.publish(given.name, given.type, values)
        return 0

    def show(message: dict[str, Any]) -> bool:
        print(f"{_text(message)}---", flush=True)
        return not given.once

    with _visit(given.timeout) as visitor:
        visitor.listen(given.name, show)
    return 0


def _parser(name: str, example: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"robosteer {name}",
        description="Needs no installed ROS 2; where there is one, `ros2` with the same words does the same.",
        epilog=f"example: robosteer {example}",
    )


def _add_timeout(parser: argparse.ArgumentParser) -> None:
    text = "patience with the graph, s (default: %(default)g)"
    parser.add_argument("--timeout", type=float, default=PATIENCE_S, metavar="SECONDS", help=text)


def _visit(timeout_s: float) -> AbstractContextManager[Visitor]:
    if not 0 < timeout_s <= 3600:
        raise RobosteerError(f"--timeout: found {timeout_s:g}, expected more than 0 and at most 3600 s")
    try:
        from robosteer_bringup.nodes.graph import visit
    except ImportError as error:
        raise RobosteerError(f"rclpy: found none ({error}), expected ROS 2; run make setup, or source it") from None
    return visit(timeout_s)


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise RobosteerError(f"values: found {text!r}, expected YAML such as '{{data: true}}' ({reason})") from None


def _text(values: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=False, width=math.inf)
