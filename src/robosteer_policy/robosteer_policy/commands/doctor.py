"""Check graph, rates, QoS, clocks, checkpoint, rig and controller before anything moves."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from robosteer_policy.doctor import Finding
    from robosteer_rig.rig import Rig

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Look at everything that must be true before the arm moves; nothing is changed.

    Exit code 0 when nothing fails (warnings are allowed), 1 otherwise.
    """

    rig: tyro.conf.Positional[Path]
    """The rig file."""
    checkpoint: str = ""
    """Checkpoint directory to compare with the rig; empty skips it."""
    hardware: bool = False
    """A real controller is behind the command topic: ask for its version, a proved rate limiter and a watchdog."""
    limiter_proof: str = "/controller_manager:enforce_command_limits=true"
    """/node:parameter=value ... that must hold, with --hardware."""
    live: bool = True
    """Look at the live ROS graph; --no-live checks files only."""
    seconds: float = 5.0
    """How long to listen to the graph, s."""
    json: bool = False
    """Print JSON instead of a table."""


def main(argv: list[str]) -> int:
    """Run `robosteer doctor`.

    Raises:
        RobosteerError: for a rig file that cannot be read, or without ROS.
    """
    options = tyro.cli(Doctor, prog="robosteer doctor", args=argv)
    from robosteer_policy import doctor, versions
    from robosteer_rig.rig import load_rig

    rig = load_rig(options.rig)
    findings = [*doctor.machine(os.environ), *doctor.rig_file(rig)]
    if options.checkpoint:
        findings += [doctor.accelerator(), *doctor.checkpoint(options.checkpoint, rig)]
    if options.hardware:
        findings += versions.findings(os.environ)
    if options.live:
        findings += _graph(options, rig)
    failed = sum(finding.verdict == "fail" for finding in findings)
    if options.json:
        rows = [dataclasses.asdict(finding) for finding in findings]
        print(json.dumps({"rig": rig.name, "failed": failed, "findings": rows}, indent=2))
    else:
        _print_table(findings)
        print(_verdict(findings, failed, options.live))
    return 1 if failed else 0


def _verdict(findings: list[Finding], failed: int, live: bool) -> str:
    """The last line: what the table comes to, and what it does not say."""
    if failed:
        return f"{failed} of {len(findings)} checks failed: do not move"
    warnings = sum(finding.verdict == "warn" for finding in findings)
    noted = f"; {warnings} warnings, see above" if warnings else ""
    return f"nothing speaks against moving{noted}" if live else f"nothing failed; the graph was not looked at{noted}"


def _graph(options: Doctor, rig: Rig) -> list[Finding]:
    from robosteer_policy import doctor
    from robosteer_policy.guard.proof import parse_requirements
    from robosteer_rig.errors import RobosteerError

    try:
        from robosteer_policy.nodes.doctor_graph import look
        from robosteer_rig.nodes.live_check import check_live
    except ImportError as error:
        raise RobosteerError(f"rclpy: found none ({error}), expected ROS 2; source it or pass --no-live") from None
    needs = parse_requirements(options.limiter_proof.split()) if options.hardware else ()
    rows = [row for row in check_live(rig, options.seconds).rows() if row.stream in rig.observation_topics()]
    facts = look(rig, needs, options.seconds)
    return [*doctor.streams(rows), *doctor.graph(facts, needs, hardware=options.hardware)]


def _print_table(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for heading in ("", "what", "", "found", "fix"):
        table.add_column(heading, overflow="fold")
    last = ""
    for finding in findings:
        if finding.area != last:
            table.add_section()
        verdict = f"[{COLOURS[finding.verdict]}]{finding.verdict}[/]"
        area = finding.area if finding.area != last else ""
        table.add_row(area, finding.what, verdict, escape(finding.found), escape(finding.fix))
        last = finding.area
    Console().print(table)
