"""What the running server sends, and those who only watch, through real sockets.

Pins: a state that an observer can change; a second client whose frames mix with the first's; images that delay poses; a
bug that ended the state messages and left everything else running.
"""

import json
import math
import socket

import pytest

from robosteer_teleop.protocol import Close, PoseFrame, Role
from robosteer_teleop.server import LinkEventKind

from .operator_bench import arrive, close_code, headers_host, join, until


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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_one_task_ends_the_server_and_whoever_uses_it(server, operator):
    def explode(now):
        raise ArithmeticError("a bug of ours")

    server._hub.link_state = explode
    assert close_code(operator) == Close.SHUTDOWN
    until(lambda: not server._thread.is_alive())
    with pytest.raises(RuntimeError, match="closed"):
        server.publish_state({"phase": "ready"})


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
