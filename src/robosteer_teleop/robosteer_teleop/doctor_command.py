"""`robosteer teleop doctor`: serve the operator's page without a robot and measure the link of a real headset."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from robosteer_teleop.link_report import LinkReport
    from robosteer_teleop.server import OperatorServer

POLL_S = 0.02


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Serve the operator's page without a robot, and report rate, pose age, gaps and faults of the headset's link."""

    seconds: float = 120.0
    """How long to measure after the first pose arrives, s. Ctrl-C ends earlier and still reports."""
    host: str = "auto"
    """IPv4 address to serve on; `auto`: the one of the default route; `0.0.0.0`: every interface."""
    port: int | None = 8443
    """TLS port; None for loopback only (headset on USB)."""
    loopback_port: int | None = 8080
    """Plain HTTP port on 127.0.0.1, for `adb reverse`."""
    json: bool = False
    """Print the report as JSON."""

    def run(self) -> int:
        """Serve, measure, report. Exit code 1 when no headset came.

        Raises:
            RobosteerError: when a port cannot be used.
        """
        from rich.console import Console

        from robosteer_teleop.link_report import LinkReport
        from robosteer_teleop.server import OperatorServer, ServerConfig, access_lines

        report = LinkReport()
        config = ServerConfig(host=self.host, port=self.port, loopback_port=self.loopback_port)
        console = Console(stderr=True, highlight=False)
        try:
            with OperatorServer(config, on_frame=report.frame) as server:
                for line in access_lines(server.access):
                    console.print(line)
                console.print(
                    "Press A in the headset to feel a pulse. Open the menu, take it off, walk away; then wait."
                )
                self._measure(server, report, console)
        except KeyboardInterrupt:
            console.print("stopped early")
        summary = report.summary()
        print(json.dumps(summary, indent=None if self.json else 1))
        return 0 if summary["frames"] else 1

    def _measure(self, server: OperatorServer, report: LinkReport, console: Console) -> None:
        from robosteer_teleop.server import LinkEventKind

        end = None
        while end is None or time.monotonic() < end:
            time.sleep(POLL_S)
            for event in server.poll_events():
                report.event(event)
                console.print(f"{event.time_s:10.2f}  {event.kind}  {event.detail}")
                if event.kind is LinkEventKind.BUTTON_PRESSED and event.detail["button"] == "A":
                    server.send_haptic("record_start")
            first = server.latest()
            if end is None and first is not None:
                end = first.received_s + self.seconds
            left = {} if end is None else {"elapsed_s": self.seconds - (end - time.monotonic())}
            server.publish_state({"phase": "ready", "instruction": "Link test: nothing moves", **left})
