"""The check-up of a headset's link.

Pins: a report that calls taking the headset off a gap of the network; percentiles over two connections; a check-up
that ends in success although no headset came.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.client import OperatorClient
from robosteer_teleop.link_report import LinkReport
from robosteer_teleop.protocol import Flags, PoseFrame
from robosteer_teleop.server import LinkEvent, LinkEventKind, ReceivedFrame


def received(seq, time_s, session="a", age_s=0.02, flags=Flags.TRACKED):
    return ReceivedFrame(PoseFrame(seq, time_s, time_s, flags), time_s, seq, session, False, age_s, b"")


def test_rate_gaps_and_ages_are_those_of_the_frames():
    report = LinkReport()
    times = [0.0, 0.01, 0.02, 0.22, 0.23]
    for seq, time_s in zip([0, 1, 2, 5, 6], times, strict=True):
        report.frame(received(seq, time_s))
    summary = report.summary()
    assert summary["rate_hz"] == pytest.approx(4 / 0.23, abs=0.01)
    assert summary["interval_ms"]["p100"] == pytest.approx(200)
    assert summary["gaps_over_100_ms"] == 1
    assert summary["skipped_by_client"] == 2
    assert summary["pose_age_ms"]["p50"] == 20


@pytest.mark.parametrize("kind", [LinkEventKind.SESSION_ENDED, LinkEventKind.OPERATOR_DISCONNECTED])
def test_a_break_that_the_operator_made_is_no_gap(kind):
    report = LinkReport()
    report.frame(received(0, 0.0))
    report.event(LinkEvent(kind, 0.1))
    report.frame(received(1, 60.0))
    assert report.summary()["interval_ms"] == {}
    assert report.summary()["events"] == {str(kind): 1}


def test_visibility_is_counted_by_state_and_guessed_poses_are_counted():
    report = LinkReport()
    for state in ("hidden", "visible", "hidden"):
        report.event(LinkEvent(LinkEventKind.VISIBILITY, 0.0, {"state": state}))
    report.frame(received(0, 0.0, flags=Flags.TRACKED | Flags.EMULATED, age_s=None))
    summary = report.summary()
    assert summary["events"] == {"visibility: hidden": 2, "visibility: visible": 1}
    assert summary["emulated_frames"] == 1


@pytest.fixture
def doctor(tmp_path, monkeypatch):
    """A running check-up, and what it printed so far."""
    command = "import sys; from robosteer_teleop.teleop_command import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["doctor", "--seconds", "0.3", "--port", "None", "--loopback-port", "0", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_DATA_HOME": str(tmp_path), "COLUMNS": "200"},
    )
    yield process
    process.kill()
    process.communicate()


def read_access(process):
    """Address and operator's code from the terminal."""
    url = code = None
    for line in process.stderr:
        url = url or next(iter(re.findall(r"http://\S+", line)), None)
        code = next(iter(re.findall(r"operator code +(\d{6})", line)), None)
        if code:
            return url, code
    raise AssertionError("no code was printed")


def test_the_check_up_reports_what_a_client_sent(doctor):
    url, code = read_access(doctor)
    with OperatorClient(url, code=code) as client, contextlib.suppress(RobosteerError):  # it closes when it is done
        while doctor.poll() is None:
            now = client.clock()
            client.send_frame(PoseFrame(client.next_seq(), now, now))
            time.sleep(0.01)  # a headset's pace; faster is refused
    out, _ = doctor.communicate(timeout=120)
    assert doctor.returncode == 0
    summary = json.loads(out)
    assert summary["frames"] > 0
    assert "operator_connected" in summary["events"]


def test_a_check_up_without_a_headset_is_no_success(doctor):
    read_access(doctor)
    doctor.send_signal(signal.SIGINT)
    out, _ = doctor.communicate(timeout=120)
    assert doctor.returncode == 1
    assert json.loads(out)["frames"] == 0
