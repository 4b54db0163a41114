"""How old a pose is when the server has it, and when another ROS process has it.

The shipped page in headless Chromium with an emulated Quest 3 sends to the real teleop node; another process subscribes
to the controller's topic. Both clocks are this machine's; the page's is calibrated against Date.now(). The emulated
headset runs at the browser's 60 Hz and is drawn in software, so the tails are those of a busy CPU, not of the link.
Run it on an idle machine, or with `chrt -r 5` in front.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from measure import save
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
PAGE_TESTS = ROOT / "src/robosteer_teleop/test/page"
WEB = ROOT / "src/robosteer_teleop/robosteer_teleop/web"
RIG = ROOT / "src/robosteer_bringup/config/rigs/sim_panda.yaml"
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
SECONDS = 20.0
WARM_UP_S = 3.0
TOPIC = "/robosteer/teleop/joy"
RECORD_SENDS = """
window.sends = [];
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data) {
  if (data.byteLength === 96) {
    window.sends.push([new DataView(data).getUint32(4, true), performance.timeOrigin + performance.now()]);
  }
  return send.call(this, data);
};
"""
# Date.now() has whole milliseconds; at the moment it changes the two clocks can be compared.
CALIBRATE = """() => {
  const differences = [];
  for (let index = 0; index < 200; index++) {
    const before = Date.now();
    let after = before;
    while (after === before) after = Date.now();
    differences.push(performance.timeOrigin + performance.now() - after);
  }
  return differences.sort((a, b) => a - b)[20];
}"""


@contextmanager
def headset(url: str, code: str) -> Iterator[Page]:
    """The page, paired and in the headset view."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        page = browser.new_page(viewport={"width": 640, "height": 360})
        for script in (WEB / "node_modules/iwer/build/iwer.min.js", PAGE_TESTS / "quest.js"):
            page.add_init_script(path=script)
        page.add_init_script(RECORD_SENDS)
        page.goto(url)
        page.fill("#code", code)
        page.click("#pairing button")
        page.click("#enter")
        yield page
        browser.close()


def sends(page: Page) -> dict[int, float]:
    """Let the page send; wall-clock time of each frame, s."""
    page.wait_for_timeout(1e3 * WARM_UP_S)
    offset_ms = page.evaluate(CALIBRATE)
    page.evaluate("() => { window.sends = []; }")
    page.wait_for_timeout(1e3 * SECONDS)
    return {seq: 1e-3 * (time_ms - offset_ms) for seq, time_ms in page.evaluate("window.sends")}


def summary(sent: dict[int, float], received: dict[int, float]) -> dict[str, Any]:
    """Latency percentiles in ms, and frames without a message: the node publishes the newest at each of its ticks."""
    common = sorted(sent.keys() & received.keys())
    ages = 1e3 * np.array([received[seq] - sent[seq] for seq in common])
    percentiles = {f"p{p}_ms": round(float(np.percentile(ages, p)), 2) for p in (50, 95, 99)}
    # The last frames are on their way when the measurement ends.
    missing = [seq for seq in sent if seq < common[-1] and seq not in received]
    return {**percentiles, "frames": len(common), "missing": len(missing)}


def to_server() -> dict[str, Any]:
    """From the page to the server, in this process."""
    from robosteer_teleop.server import OperatorServer, ReceivedFrame, ServerConfig

    received: dict[int, float] = {}
    to_wall_s = time.time() - time.monotonic()

    def note(frame: ReceivedFrame) -> None:
        received[frame.frame.seq] = frame.received_s + to_wall_s

    with OperatorServer(ServerConfig(port=None, loopback_port=0), on_frame=note) as server:
        access = server.access
        with headset(access.urls[-1], access.operator_code) as page:
            sent = sends(page)
    return summary(sent, received)


def to_ros() -> dict[str, Any]:
    """From the page through the teleop node to a subscriber in a third process."""
    environment = {
        **os.environ,
        "ROS_DOMAIN_ID": str(os.getpid() % 100 + 1),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }
    with tempfile.TemporaryDirectory() as directory:
        connection = Path(directory) / "link.json"
        node = [sys.executable, "-c", "import sys; from robosteer_teleop.nodes.teleop import main; sys.exit(main())"]
        parameters = {"rig": RIG, "port": -1, "loopback_port": 0, "connection_file": connection}
        node += ["--ros-args", *(word for name, value in parameters.items() for word in ("-p", f"{name}:={value}"))]
        listener = [sys.executable, __file__, "--listen"]
        processes = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            for command in (node, listener)
        ]
        try:
            access = _patiently(lambda: json.loads(connection.read_text()) if connection.exists() else None)
            with headset(access["url"], access["operator_code"]) as page:
                sent = sends(page)
            processes[1].terminate()
            received = {int(seq): time_s for seq, time_s in json.loads(processes[1].communicate(timeout=20)[0])}
        finally:
            for process in processes:
                process.terminate()
                process.wait(timeout=20)
    return summary(sent, received)


def _patiently(look: Callable[[], Any]) -> Any:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise TimeoutError("the teleop node did not start")


def listen() -> int:
    """Subscribe until SIGTERM; then print [number, wall-clock time] of every message."""
    import signal

    import rclpy
    from rclpy.signals import SignalHandlerOptions
    from sensor_msgs.msg import Joy

    received: list[tuple[str, float]] = []
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("listener")
    node.create_subscription(Joy, TOPIC, lambda m: received.append((m.header.frame_id, time.time())), 10)
    while not stopped:
        rclpy.spin_once(node, timeout_sec=0.05)
    print(json.dumps(received))
    rclpy.shutdown()
    return 0


def main() -> int:
    """Measure both ways and save."""
    if "--listen" in sys.argv:
        return listen()
    server, ros = to_server(), to_ros()
    save(
        "operator_link",
        {
            "page_to_server": server,
            "page_to_ros": ros,
            "ros_over_server_p50": round(ros["p50_ms"] / server["p50_ms"], 2),
            "seconds": SECONDS,
            "scheduler": "SCHED_RR" if os.sched_getscheduler(0) == os.SCHED_RR else "SCHED_OTHER",
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
