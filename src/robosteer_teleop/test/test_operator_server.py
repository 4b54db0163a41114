"""The running server, through real sockets.

Pins: a foreign page that opens the socket; a stall after which the arm follows at once; a killed client noticed late or
never; a second client whose frames mix with the first's; NaN, floods and oversized messages that reach the control
loop; a state that an observer can change; images that delay poses; a server that keeps its port.
"""

import asyncio
import contextlib
import dataclasses
import json
import math
import socket
import stat
import struct
import time

import aiohttp
import pytest

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.client import OperatorClient
from robosteer_teleop.protocol import Buttons, Close, Flags, PoseFrame, Role
from robosteer_teleop.server import LinkEventKind, OperatorServer, ServerConfig

PATIENCE_S = 10.0


def until(condition, what="the condition"):
    """Poll until a condition holds; its value."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.002)
    raise AssertionError(f"waited {PATIENCE_S} s for {what}")


class Watch:
    """Events of a server, kept."""

    def __init__(self, server):
        self.server = server
        self.seen = []

    def all(self):
        self.seen += self.server.poll_events()
        return self.seen

    def wait(self, kind):
        """The first event of a kind; it and all before it are forgotten."""

        def found():
            return next((event for event in self.all() if event.kind is kind), None)

        event = until(found, kind)
        self.seen = self.seen[self.seen.index(event) + 1 :]
        return event


@pytest.fixture
def config(tmp_path):
    return ServerConfig(
        host="127.0.0.1", port=None, loopback_port=0, tls_directory=tmp_path, takeover_s=0.2, hello_timeout_s=0.2
    )


@pytest.fixture
def server(config):
    with OperatorServer(config) as running:
        yield running


@pytest.fixture
def watch(server):
    return Watch(server)


@pytest.fixture
def operator(server):
    with join(server) as client:
        yield client


def join(server, role=Role.OPERATOR, **arguments):
    access = server.access
    code = access.operator_code if role is Role.OPERATOR else access.observer_code
    return OperatorClient(access.urls[0], **{"code": code, "role": role, **arguments})


def send(client, **fields):
    now = client.clock()
    client.send_frame(PoseFrame(**{"seq": client.next_seq(), "send_time": now, "frame_time": now, **fields}))


def arrive(server, client, **fields):
    """Send a frame and wait until it is on the board."""
    before = server.latest()
    send(client, **fields)
    return until(lambda: (new := server.latest()) is not before and new, "a frame")


def close_code(client):
    return until(lambda: client.closed, "the end of the connection")[0]


def refused(client):
    with pytest.raises(RobosteerError):
        client.connect()
    return client.closed[0]


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


def test_pairing_never_arms(server, operator, watch):
    assert not arrive(server, operator).armed
    server.set_armed(True)
    watch.wait(LinkEventKind.ARMED)
    assert arrive(server, operator).armed
    server.set_armed(False)
    assert watch.wait(LinkEventKind.DISARMED).fault


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost", "null", "http://LOCALHOST:{port}", ""])
def test_a_foreign_origin_is_refused_before_the_upgrade(server, origin):
    port = server.access.urls[0].rpartition(":")[2]
    assert refused(join(server, origin=origin.format(port=port))) == 403


def raw_request(server, path, **headers):
    """Status and headers of a request with exactly these headers."""

    async def request():
        async with (
            aiohttp.ClientSession() as session,
            session.get(server.access.urls[0] + path, headers=headers) as response,
        ):
            return response.status, dict(response.headers), await response.text()

    return asyncio.run(request())


def test_a_missing_origin_is_refused(server):
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    status, _, _ = raw_request(server, "/ws", **upgrade, **{"Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg=="})
    assert status == 403


def test_a_foreign_host_name_is_refused(server):
    assert raw_request(server, "/about.json", Host="evil.example")[0] == 421


def test_nothing_from_elsewhere_may_be_loaded(server):
    status, headers, _ = raw_request(server, "/about.json")
    policy = headers["Content-Security-Policy"]
    assert status == 200
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    sources = {word for part in policy.split(";") for word in part.split()[1:]}
    assert {source for source in sources if "://" in source} == {f"ws://{headers_host(server)}"}


def headers_host(server):
    return server.access.urls[0].partition("://")[2]


def test_wrong_codes_are_refused_and_the_fifth_locks_out(server, watch):
    codes = [refused(join(server, code="x")) for _ in range(5)]
    assert codes == [Close.CREDENTIALS] * 4 + [Close.LOCKED]
    assert refused(join(server)) == Close.LOCKED
    watch.wait(LinkEventKind.PAIRING_FAILED)
    watch.wait(LinkEventKind.LOCKED_OUT)


def test_a_silent_connection_is_closed(server):
    async def linger():
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(server.access.urls[0] + "/ws", origin=server.access.urls[0]) as ws,
        ):
            await ws.receive()
            return ws.close_code

    assert asyncio.run(linger()) == Close.HELLO_TIMEOUT


def test_a_code_works_once_and_a_second_operator_is_refused(server, operator, watch):
    arrive(server, operator)
    assert refused(join(server)) == Close.OPERATOR_TAKEN
    assert arrive(server, operator), "the first one is not disturbed"


def test_a_token_comes_back_and_keeps_the_session(server, watch):
    with join(server) as client:
        session = arrive(server, client).session
    assert watch.wait(LinkEventKind.OPERATOR_DISCONNECTED).fault
    with join(server, code=None, token=client.token) as again:
        assert arrive(server, again).session == session


def test_an_armed_operator_who_reconnects_stays_armed_and_a_new_one_does_not(server, watch):
    with join(server) as client:
        server.set_armed(True)
        watch.wait(LinkEventKind.ARMED)
    with join(server, code=None, token=client.token):
        assert server.armed
    watch.wait(LinkEventKind.OPERATOR_DISCONNECTED)
    watch.wait(LinkEventKind.OPERATOR_DISCONNECTED)
    successor = until(lambda: try_join(server), "the seat")
    assert watch.wait(LinkEventKind.OPERATOR_CHANGED).fault
    assert not server.armed
    successor.close()
    assert refused(join(server, code=None, token=client.token)) == Close.CREDENTIALS


def try_join(server):
    client = join(server)
    try:
        client.connect()
    except RobosteerError:
        assert client.closed[0] == Close.OPERATOR_TAKEN
        return None
    return client


def test_the_same_session_replaces_its_half_open_socket(server, operator, watch):
    arrive(server, operator)
    with join(server, code=None, token=operator.token) as again:
        assert close_code(operator) == Close.REPLACED
        assert watch.wait(LinkEventKind.OPERATOR_DISCONNECTED).detail["reason"] == "replaced"
        arrive(server, again)


def test_a_freed_seat_disarms_and_voids_token_and_code(server, operator, watch):
    server.set_armed(True)
    old = server.access.operator_code
    server.release_operator()
    assert watch.wait(LinkEventKind.DISARMED)
    assert close_code(operator) == Close.REPLACED
    assert server.access.operator_code != old
    assert refused(join(server, code=None, token=operator.token)) == Close.CREDENTIALS
    with join(server) as successor:
        arrive(server, successor)


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
        (b"\1" * 5000, 1009),
        ("x" * 5000, 1009),
    ],
    ids=range(10),
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


@pytest.mark.parametrize(
    "data", [PoseFrame(0, 1.0, 1.0).encode(), '{"type":"command","name":"start"}', '{"type":"reset"}']
)
def test_nothing_an_observer_sends_reaches_the_robot(server, watch, data):
    with join(server, Role.OBSERVER) as observer:
        observer.send_raw(data)
        assert close_code(observer) == Close.MALFORMED
    watch.wait(LinkEventKind.OBSERVER_DISCONNECTED)
    assert server.latest() is None
    assert {event.kind for event in watch.all()} <= {LinkEventKind.OBSERVER_CONNECTED}


def test_everybody_sees_the_state_and_only_the_operator_feels(server, operator):
    with join(server, Role.OBSERVER) as observer:
        server.publish_state({"phase": "recording", "instruction": "Würfel"})
        server.send_haptic("engage")
        for client in (operator, observer):
            state = until(lambda client=client: client.state.get("phase") == "recording" and client.state)
            assert state["link"]["connected"] is True
            assert state["link"]["observers"] == 1
        cue = until(lambda: next((m for m in operator.poll_messages() if m["type"] == "haptic"), None))
        assert (cue["name"], cue["strength"], cue["duration_ms"], cue["repeats"]) == ("engage", 0.3, 20, 1)
        assert not [m for m in observer.poll_messages() if m["type"] == "haptic"]


def test_a_state_that_cannot_be_sent_is_refused_in_the_caller(server):
    for state in ({"rate": math.nan}, {"link": {}}, {"text": "x" * 20_000}):
        with pytest.raises(ValueError, match=r"JSON|state"):
            server.publish_state(state)
    with pytest.raises(KeyError):
        server.send_haptic("tickle")


def test_images_go_to_those_who_asked(server, operator):
    with join(server, Role.OBSERVER) as observer:
        observer.send({"type": "cameras", "enabled": True})
        image = until(lambda: server.publish_image("wrist", b"jpeg") or observer.latest_image("wrist"))
        assert image.jpeg == b"jpeg"
        assert operator.latest_image("wrist") is None


def test_a_client_that_does_not_read_delays_nobody(server, operator):
    """The socket of an observer that stops reading fills; images for it are dropped, the operator's frames go on."""
    host, port = headers_host(server).split(":")
    deaf = socket.create_connection((host, int(port)))
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    request = (
        f"GET /ws HTTP/1.1\r\nHost: {host}:{port}\r\nOrigin: http://{host}:{port}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    )
    deaf.sendall(request.encode())
    hello = {"type": "hello", "v": 1, "role": "observer", "code": server.access.observer_code}
    for text in (json.dumps(hello), '{"type":"cameras","enabled":true}'):
        deaf.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text.encode())
    until(lambda: server.link_state()["observers"] == 1)
    jpeg = b"x" * 500_000
    for _ in range(40):  # fewer than the burst that is allowed
        server.publish_image("wrist", jpeg)
        arrive(server, operator)
    deaf.close()


def test_tls_is_served_with_the_key_of_this_installation(tmp_path):
    config = ServerConfig(host="127.0.0.1", port=0, loopback_port=None, tls_directory=tmp_path)
    with OperatorServer(config) as server:
        assert server.access.certificate_note == "there was none"
        assert all(url.startswith("https://") for url in server.access.urls)
        with join(server, fingerprint=server.access.fingerprint) as client:
            arrive(server, client)
        wrong = join(server, fingerprint="00" * 32)
        assert refused(wrong) != 403
        assert "Fingerprint" in wrong.closed[1]


def test_the_connection_file_lets_the_hosts_own_programs_in(config, tmp_path):
    path = tmp_path / "link.json"
    with OperatorServer(dataclasses.replace(config, connection_file=path)) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with OperatorClient.from_file(path) as client:
            arrive(server, client)
        until(lambda: json.loads(path.read_text())["operator_code"] == server.access.operator_code, "the new code")
    assert not path.exists()
    with pytest.raises(RobosteerError, match="start the teleop node"):
        OperatorClient.from_file(path)


def test_a_port_in_use_is_said_and_a_stopped_server_frees_its_port(config):
    with OperatorServer(config) as server:
        port = int(server.access.urls[0].rpartition(":")[2])
        with pytest.raises(RobosteerError, match="not available"):
            OperatorServer(dataclasses.replace(config, loopback_port=port)).start()
        client = join(server)
        client.connect()
    assert close_code(client) == Close.SHUTDOWN
    with OperatorServer(dataclasses.replace(config, loopback_port=port)):
        pass
