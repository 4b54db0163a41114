"""Who gets in.

Pins: a socket for whoever finds the port (no secret, any Origin); a code that can be guessed by trying; an observer's
code that makes an operator; a token that outlives its seat; two operators whose streams interleave; a certificate that
is the same in every installation, or new at each start.
"""

import datetime
import json
import ssl
import stat

import pytest

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.protocol import Close, Role
from robosteer_teleop.server.access import TRIES, TRIES_ALL, Grant, OperatorSeat, PairingDesk, RefusedError, origin_of
from robosteer_teleop.server.certificate import VALID_DAYS, ensure_certificate, make_certificate
from robosteer_teleop.server.config import ServerConfig

HELLO = {"type": "hello", "v": 1}


def refusal(call):
    with pytest.raises(RefusedError) as caught:
        call()
    return caught.value.code


@pytest.fixture
def desk():
    codes = iter(f"{n:06d}" for n in range(100000, 200000))
    return PairingDesk(token_ttl_s=100.0, make_code=lambda: next(codes))


def by_code(desk, code, role="operator", address="a", now=0.0):
    return desk.admit({**HELLO, "role": role, "code": code}, address, now)


def by_token(desk, token, role="operator", now=1.0):
    return desk.admit({**HELLO, "role": role, "token": token}, "a", now)


def test_the_right_code_lets_in_and_the_wrong_role_does_not(desk):
    assert by_code(desk, desk.operator_code).role is Role.OPERATOR
    assert by_code(desk, desk.observer_code, "observer").role is Role.OBSERVER
    assert refusal(lambda: by_code(desk, desk.observer_code)) is Close.CREDENTIALS
    assert refusal(lambda: by_code(desk, desk.operator_code, "observer")) is Close.CREDENTIALS


@pytest.mark.parametrize(
    "hello",
    [
        {},
        HELLO,
        {**HELLO, "role": "king"},
        {**HELLO, "role": "operator", "v": 2},
        {"type": "state", "role": "operator"},
    ],
)
def test_a_hello_that_is_none_is_malformed(desk, hello):
    assert refusal(lambda: desk.admit(hello, "a", 0.0)) is Close.MALFORMED


@pytest.mark.parametrize("code", [None, 123456, "", "ü", ["100000"]])
def test_a_code_that_is_none_is_refused(desk, code):
    assert refusal(lambda: by_code(desk, code)) is Close.CREDENTIALS


def test_five_wrong_codes_lock_an_address_out_for_a_minute(desk):
    for _ in range(TRIES - 1):
        assert refusal(lambda: by_code(desk, "000000")) is Close.CREDENTIALS
    assert refusal(lambda: by_code(desk, "000000")) is Close.LOCKED
    assert refusal(lambda: by_code(desk, desk.operator_code, now=59.0)) is Close.LOCKED
    assert by_code(desk, desk.operator_code, address="b", now=1.0)
    assert by_code(desk, desk.operator_code, now=61.0)


def test_wrong_codes_that_lie_a_minute_apart_do_not_lock(desk):
    for now in range(0, 1000, 20):
        assert refusal(lambda now=now: by_code(desk, "000000", now=float(now))) is Close.CREDENTIALS


def test_many_addresses_together_lock_everybody_but_tokens_out(desk):
    token = desk.make_token(by_code(desk, desk.operator_code), 0.0)
    for number in range(TRIES_ALL):
        refusal(lambda number=number: by_code(desk, "000000", address=f"a{number}"))
    assert refusal(lambda: by_code(desk, desk.operator_code, address="fresh")) is Close.LOCKED
    assert by_token(desk, token)


def test_a_token_names_its_session_role_and_end(desk):
    grant = by_code(desk, desk.operator_code)
    token = desk.make_token(grant, 0.0)
    assert by_token(desk, token) == Grant(grant.session, Role.OPERATOR, by_code=False)
    assert refusal(lambda: by_token(desk, token, "observer")) is Close.CREDENTIALS
    assert refusal(lambda: by_token(desk, token, now=101.0)) is Close.CREDENTIALS
    assert refusal(lambda: by_token(PairingDesk(100.0), token)) is Close.CREDENTIALS, "a restart voids tokens"


@pytest.mark.parametrize(
    "forge", [lambda t: t[:-1] + "x", lambda t: t.replace("observer", "operator"), lambda t: "é", lambda t: ""]
)
def test_a_forged_token_is_refused(desk, forge):
    token = desk.make_token(by_code(desk, desk.observer_code, "observer"), 0.0)
    assert refusal(lambda: by_token(desk, forge(token))) is Close.CREDENTIALS


def test_the_seat_takes_one_and_gives_way_only_after_five_seconds_to_a_new_code():
    seat = OperatorSeat(takeover_s=5.0)
    first, second = Grant("1", Role.OPERATOR, True), Grant("2", Role.OPERATOR, True)
    seat.check(first, 0.0)
    assert seat.take("1") is None
    assert refusal(lambda: seat.check(second, 100.0)) is Close.OPERATOR_TAKEN
    seat.leave(100.0)
    assert refusal(lambda: seat.check(second, 104.9)) is Close.OPERATOR_TAKEN
    seat.check(Grant("1", Role.OPERATOR, False), 104.9)
    seat.check(second, 105.1)
    assert seat.take("2") == "1"
    assert refusal(lambda: seat.check(Grant("1", Role.OPERATOR, False), 200.0)) is Close.CREDENTIALS


def test_a_freed_seat_is_free_and_its_token_void():
    seat = OperatorSeat(takeover_s=5.0)
    seat.take("1")
    seat.release()
    assert refusal(lambda: seat.check(Grant("1", Role.OPERATOR, False), 0.0)) is Close.CREDENTIALS
    seat.check(Grant("2", Role.OPERATOR, True), 0.0)


def test_origins_are_written_as_browsers_write_them():
    assert origin_of("https", "robot", 443) == "https://robot"
    assert origin_of("https", "robot", 8443) == "https://robot:8443"


NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def test_a_certificate_is_made_once_and_kept(tmp_path):
    made = ensure_certificate(tmp_path, ["robot", "192.168.1.5"], NOW)
    assert made.renewed_because == "there was none"
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    again = ensure_certificate(tmp_path, ["192.168.1.5", "robot"], NOW + datetime.timedelta(days=VALID_DAYS - 1))
    assert (again.fingerprint, again.renewed_because) == (made.fingerprint, None)
    assert isinstance(again.context(), ssl.SSLContext)


def test_two_installations_have_two_keys(tmp_path):
    first, second = (make_certificate(tmp_path / name, ["robot"]) for name in "ab")
    assert first.fingerprint != second.fingerprint


def test_a_certificate_is_renewed_for_a_new_address_and_at_its_end_only(tmp_path):
    made = ensure_certificate(tmp_path, ["robot"], NOW)
    moved = ensure_certificate(tmp_path, ["robot", "10.0.0.7"], NOW)
    assert moved.renewed_because == "it did not name 10.0.0.7"
    assert moved.fingerprint != made.fingerprint
    late = ensure_certificate(tmp_path, ["robot"], NOW + datetime.timedelta(days=VALID_DAYS + 1))
    assert "expired" in late.renewed_because


def test_a_broken_or_open_key_file_is_said(tmp_path):
    path = make_certificate(tmp_path, ["robot"]).path
    path.chmod(0o644)
    with pytest.raises(RobosteerError, match="chmod 600"):
        ensure_certificate(tmp_path, ["robot"])
    path.write_text("nonsense")
    with pytest.raises(RobosteerError, match="cert renew"):
        ensure_certificate(tmp_path, ["robot"])


@pytest.mark.parametrize(
    "fields", [{"port": 80}, {"port": None, "loopback_port": None}, {"stale_s": 0.0}, {"max_rate_hz": float("nan")}]
)
def test_a_configuration_that_cannot_work_is_refused(fields):
    with pytest.raises(RobosteerError, match="expected"):
        ServerConfig(**fields)


def test_cert_command_shows_and_renews(tmp_path, capsys):
    from robosteer_teleop.teleop_command import main

    assert main(["cert", "show", "--directory", str(tmp_path)]) == 1
    assert "no certificate" in capsys.readouterr().out
    assert main(["cert", "renew", "--directory", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["cert", "show", "--directory", str(tmp_path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert "localhost" in shown["names"]
    assert shown["fingerprint"] == ensure_certificate(tmp_path, ["localhost"]).fingerprint
