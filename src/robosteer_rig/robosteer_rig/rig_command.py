"""`robosteer rig`: compare a robot, or a recording of it, with its rig file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

if TYPE_CHECKING:
    from robosteer_rig.check import Row
    from robosteer_rig.rig import Rig

MAX_SECONDS = 600.0


@dataclasses.dataclass(frozen=True)
class Check:
    """Compare every topic with the rig file: presence, type, rate, QoS, joints, units, image size, gripper polarity.

    Looks at the live ROS graph, or at a recording with --bag. Move the gripper once while it listens: that shows its
    polarity. Exit code 0 when everything fits, 1 when something does not.
    """

    rig: tyro.conf.Positional[Path]
    """The rig file."""
    bag: Path | None = None
    """A rosbag2 directory to look at instead of the live graph."""
    seconds: float = 5.0
    """How long to listen to the live graph, s."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclasses.dataclass(frozen=True)
class Show:
    """Print a rig file with every default filled in, and its digest."""

    rig: tyro.conf.Positional[Path]
    """The rig file."""


Command = Annotated[Check, tyro.conf.subcommand("check")] | Annotated[Show, tyro.conf.subcommand("show")]


def main(argv: list[str]) -> int:
    """Run `robosteer rig <check|show> ...`.

    Raises:
        RobosteerError: for a rig file or a bag that cannot be read.
    """
    from robosteer_rig.rig import load_rig

    command: Any = tyro.cli(Command, prog="robosteer rig", description=__doc__, args=argv)  # pyright: ignore[reportArgumentType, reportCallIssue]
    rig = load_rig(command.rig)
    if isinstance(command, Show):
        print(f"# digest {rig.digest()}\n{rig.to_yaml()}", end="")
        return 0
    rows = _rows(rig, command)
    bad = sum(row.verdict == "bad" for row in rows)
    if command.json:
        print(json.dumps({"rig": rig.name, "bad": bad, "rows": [dataclasses.asdict(row) for row in rows]}, indent=2))
    else:
        _print_table(rows)
        print(f"{rig.name}: {bad} of {len(rows)} checks failed" if bad else f"{rig.name}: everything fits")
    return 1 if bad else 0


def _rows(rig: Rig, command: Check) -> list[Row]:
    from robosteer_rig.errors import RobosteerError

    if command.bag is not None:
        from robosteer_rig.bag_check import check_bag

        return check_bag(rig, command.bag).rows()
    if not 0 < command.seconds <= MAX_SECONDS:
        raise RobosteerError(f"--seconds: found {command.seconds:g}, expected a number in (0, {MAX_SECONDS:g}]")
    try:
        from robosteer_rig.nodes.live_check import check_live
    except ImportError as error:
        raise RobosteerError(
            f"rclpy: found none ({error}), expected ROS 2; source its setup file or pass --bag"
        ) from None
    return check_live(rig, command.seconds).rows()


def _print_table(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    colours = {"ok": "green", "note": "yellow", "bad": "red"}
    table = Table()
    for heading in ("stream", "what", "", "found", "expected"):
        table.add_column(heading, overflow="fold")
    last = ""
    for row in rows:
        if row.stream != last:
            table.add_section()
            table.add_row(row.stream, "", "", f"[dim]{row.topic}[/]", "")
        last = row.stream
        verdict = f"[{colours[row.verdict]}]{row.verdict}[/]"
        table.add_row("", row.what, verdict, escape(row.found), escape(row.expected))
    Console().print(table)
