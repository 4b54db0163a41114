"""What the operator's client sends to the running server, through real sockets.

Pins: a stall after which the arm follows at once; a killed client noticed late or never; NaN, floods and oversized
messages that reach the control loop; an old frame that is taken for a new one.
"""

import contextlib
import math
import struct
import time

import pytest

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.protocol import Buttons, Close, Flags, PoseFrame
from robosteer_teleop.server import LinkEventKind, OperatorServer

from .operator_bench import arrive, close_code, join, send, until


def test_frames_arrive_unchanged_with_the_time_of_reception(server, operator):
    before = time.monotonic()
    received = arrive(server, operator, position=(1.0, 2.0, 3.0), trigger=0.5, buttons=Buttons.A)
    assert received.frame.position == (1.0, 2.0, 3.0)
    assert PoseFrame.decode(received.raw) == received.frame
    assert before < received.received_s < time.monotonic()


def test_every_frame_is_seen_in_order(config):
    seen = []
    with OperatorServer(config, on_frame=seen.append) as server, join(server) as client:
        for _ in range(60):
            send(client)
        until(lambda: len(seen) == 60)
    assert [(received.frame.seq, received.count) for received in seen] == [(n, n + 1) for n in range(60)]


def test_pose_age_is_known_within_the_round_trip(server, operator):
    until(lambda: server.link_state()["rtt_s"])
    now = operator.clock()
    received = arrive(server, operator, frame_time=now - 0.5, send_time=now)
    assert received.pose_age_s == pytest.approx(0.5, abs=0.25)


def test_silence_is_stale_within_the_limit_and_said_once(server, operator, watch):
    last = arrive(server, operator)
    stale = watch.wait(LinkEventKind.STALE)
    assert stale.fault
    assert stale.time_s - last.received_s > 0.1
    arrive(server, operator)
    assert watch.wait(LinkEventKind.RESUMED)
    assert [event.kind for event in watch.all()].count(LinkEventKind.STALE) <= 1


def test_an_ended_session_is_a_fault_and_no_staleness(server, operator, watch):
    arrive(server, operator)
    operator.send({"type": "session", "state": "ended"})
    assert watch.wait(LinkEventKind.SESSION_ENDED).fault
    operator.send({"type": "visibility", "state": "visible"})
    watch.wait(LinkEventKind.VISIBILITY)
    time.sleep(0.15)  # longer than stale_s: what must not happen needs time to happen
    assert LinkEventKind.STALE not in [event.kind for event in watch.all()]


def test_a_dropped_connection_is_noticed_at_once(server, watch):
    client = join(server)
    client.connect()
    arrive(server, client)
    client.close()
    assert watch.wait(LinkEventKind.OPERATOR_DISCONNECTED).fault


def test_edges_of_buttons_and_tracking_become_events(server, operator, watch):
    send(operator, buttons=Buttons.B)
    send(operator, buttons=Buttons.A | Buttons.B)
    send(operator, buttons=Buttons.B, flags=Flags.VISIBLE)
    send(operator)
    assert watch.wait(LinkEventKind.BUTTON_PRESSED).detail == {"button": "A"}, "B was down at the start"
    assert watch.wait(LinkEventKind.TRACKING_LOST).fault
    assert watch.wait(LinkEventKind.BUTTON_RELEASED).detail == {"button": "A"}
    assert not watch.wait(LinkEventKind.TRACKING_FOUND).fault
    assert watch.wait(LinkEventKind.BUTTON_RELEASED).detail == {"button": "B"}


@pytest.mark.parametrize(
    ("message", "kind", "fault"),
    [
        ({"type": "visibility", "state": "visible"}, LinkEventKind.VISIBILITY, False),
        ({"type": "visibility", "state": "visible-blurred"}, LinkEventKind.VISIBILITY, True),
        ({"type": "visibility", "state": "hidden"}, LinkEventKind.VISIBILITY, True),
        ({"type": "reset"}, LinkEventKind.RESET, True),
        ({"type": "command", "name": "keep"}, LinkEventKind.COMMAND, False),
        (
            {"type": "session", "state": "started", "profile": "p", "frame_rate": 72, "ray_in_grip": [0, 0, 0, 1]},
            LinkEventKind.SESSION_STARTED,
            False,
        ),
    ],
)
def test_messages_become_events(server, operator, watch, message, kind, fault):
    operator.send(message)
    assert watch.wait(kind).fault is fault


def nan_frame():
    data = bytearray(PoseFrame(0, 1.0, 1.0).encode())
    struct.pack_into("<f", data, 24, math.nan)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", Close.MALFORMED),
        (b"\1" * 95, Close.MALFORMED),
        (b"\1" * 97, Close.MALFORMED),
        (nan_frame(), Close.MALFORMED),
        ("{", Close.MALFORMED),
        ('{"type":"teleport"}', Close.MALFORMED),
        ('{"type":"command","name":"format_disk"}', Close.MALFORMED),
        ('{"type":"session","state":"started"}', Close.MALFORMED),
        ('{"type":"pong","id":1,"client_s":1e999}', Close.MALFORMED),
        (b"\1" * 5000, 1009),
        ("x" * 5000, 1009),
    ],
    ids=range(11),
)
def test_what_no_honest_client_sends_ends_the_connection(server, operator, watch, data, code):
    arrive(server, operator)
    operator.send_raw(data)
    assert close_code(operator) == code
    assert watch.wait(LinkEventKind.OPERATOR_DISCONNECTED).fault
    assert server.latest().count == 1


def test_an_old_frame_is_dropped_and_a_fault(server, operator, watch):
    arrive(server, operator, seq=5)
    send(operator, seq=5)
    assert watch.wait(LinkEventKind.BAD_FRAME).fault
    received = arrive(server, operator, seq=8)
    assert received.count == 2
    assert server.link_state()["lost"] == 2
    send(operator, seq=9, send_time=received.frame.send_time - 1)
    assert watch.wait(LinkEventKind.BAD_FRAME).fault


def test_a_flood_ends_the_connection(server, operator, watch):
    with contextlib.suppress(RobosteerError):  # closed before all were sent
        for _ in range(200):
            send(operator)
    assert close_code(operator) == Close.TOO_FAST
    assert watch.wait(LinkEventKind.TOO_FAST).fault
    assert server.latest().count < 130


def test_a_flood_of_json_ends_the_connection(server, operator):
    with contextlib.suppress(RobosteerError):
        for _ in range(200):
            operator.send({"type": "reset"})
    assert close_code(operator) == Close.TOO_FAST
