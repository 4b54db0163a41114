"""Who gets in to the running server, through real sockets.

Pins: a foreign page that opens the socket; a code that works twice; a second operator who takes the seat of the first;
a reconnection that arms, or a new operator who is armed; a server that keeps its port.
"""

import asyncio
import dataclasses
import json
import stat

import aiohttp
import pytest

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.client import OperatorClient
from robosteer_teleop.protocol import Close
from robosteer_teleop.server import LinkEventKind, OperatorServer, ServerConfig

from .operator_bench import arrive, close_code, headers_host, join, refused, until


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
