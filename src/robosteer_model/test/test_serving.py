"""The policy server and its client.

Pins: health answers while inference runs; a peer gets one line and never a traceback; only loopback without a token;
browsers (an Origin header) are refused; oversized, text, malformed and out-of-range messages end that connection only.
"""

import threading
import urllib.request

import numpy as np
import pytest
from tiny import droid_observation
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from robosteer_model.errors import ModelError
from robosteer_model.layouts import DROID
from robosteer_model.serving.client import PolicyClient
from robosteer_model.serving.requests import Limits, check_request
from robosteer_model.serving.server import PolicyServer
from robosteer_model.serving.wire import pack, unpack

DEADLINE_S = 60.0


class RecordingPolicy:
    """Answers with the gripper position; waits or fails where a test says so."""

    def __init__(self):
        self.started, self.release = threading.Event(), threading.Event()
        self.release.set()
        self.seen = []

    def infer(self, raw_observation):
        self.seen.append(raw_observation)
        self.started.set()
        assert self.release.wait(DEADLINE_S)
        if raw_observation.get("prompt") == "fail":
            raise ZeroDivisionError("a secret of the server")
        if raw_observation.get("prompt") == "refuse":
            raise ModelError("prompt: found 'refuse', expected something else")
        value = float(np.asarray(raw_observation["observation/gripper_position"]).ravel()[0])
        return {"actions": np.full((5, 8), value), "policy_timing": {"infer_ms": 1.0}}


@pytest.fixture
def policy():
    return RecordingPolicy()


@pytest.fixture
def port(policy):
    with PolicyServer(policy, DROID, metadata={"model_type": "pi05"}, port=0).in_background() as port:
        yield port
        policy.release.set()


def client(port, **options):
    return PolicyClient(port=port, timeout_s=DEADLINE_S, **options)


def healthy(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=DEADLINE_S) as answer:
        return answer.status == 200 and answer.read() == b"OK\n"


def test_conversation(port, policy):
    raw = droid_observation()
    with client(port) as connection:
        assert connection.metadata == {"model_type": "pi05"}
        first, second = connection.infer(raw), connection.infer(raw)
    np.testing.assert_array_equal(first["actions"], np.full((5, 8), raw["observation/gripper_position"][0]))
    assert set(first["server_timing"]) == {"infer_ms"}
    assert set(second["server_timing"]) == {"infer_ms", "prev_total_ms"}
    for name, value in raw.items():
        np.testing.assert_array_equal(policy.seen[0][name], value)


def test_health_answers_during_inference(port, policy):
    policy.release.clear()
    answers = []
    with client(port) as connection:
        thread = threading.Thread(target=lambda: answers.append(connection.infer(droid_observation())))
        thread.start()
        assert policy.started.wait(DEADLINE_S)
        assert healthy(port)
        assert not answers
        policy.release.set()
        thread.join(DEADLINE_S)
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("fail", "internal error of the policy server"), ("refuse", "prompt: found 'refuse', expected something else")],
)
def test_errors_are_one_line_without_a_traceback(port, prompt, expected):
    with client(port) as connection, pytest.raises(ModelError, match=expected) as error:
        connection.infer(droid_observation() | {"prompt": prompt})
    assert "secret" not in str(error.value)
    assert "Traceback" not in str(error.value)
    with client(port) as connection:
        assert connection.infer(droid_observation())["actions"].shape == (5, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observation/wrist_image_left": np.zeros((2, 2), np.uint8)}, "expected an image"),
        ({"observation/wrist_image_left": np.zeros((2, 2, 3), np.int32)}, "expected an image"),
        ({"observation/wrist_image_left": np.zeros((5000, 1, 3), np.uint8)}, "sides of 1..4096"),
        ({"observation/wrist_image_left": np.full((3, 4, 4), 2.0)}, r"outside \[0, 1\]"),
        ({"observation/wrist_image_left": np.full((3, 4, 4), np.nan)}, r"outside \[0, 1\]"),
        ({"observation/wrist_image_left": "x"}, "expected an image"),
        ({"observation/joint_position": np.zeros(1000)}, "at most 256 numbers"),
        ({"observation/joint_position": np.zeros((2, 2))}, "at most 256 numbers"),
        ({"observation/joint_position": "text"}, "at most 256 numbers"),
        ({"observation/joint_position": np.full(7, np.nan)}, "expected finite numbers"),
        ({"observation/gripper_position": np.array([np.inf])}, "expected finite numbers"),
        ({"prompt": "x" * 5000}, "at most 4096 letters"),
        ({"prompt": 3}, "expected text"),
    ],
)
def test_requests_out_of_bounds_are_refused(port, policy, change, message):
    with client(port) as connection, pytest.raises(ModelError, match=message):
        connection.infer(droid_observation() | change)
    assert not policy.seen
    assert healthy(port)


def test_unknown_fields_do_not_reach_the_policy(port, policy):
    with client(port) as connection:
        connection.infer(droid_observation() | {"observation/exterior_image_2_left": np.zeros(3), "x": 1})
    assert set(policy.seen[0]) == set(droid_observation())


@pytest.mark.parametrize("message", ["text", b"", b"\xc1", pack([1, 2]), b"\x91" * 50_000])
def test_nonsense_ends_the_connection_only(port, policy, message):
    with connect(f"ws://127.0.0.1:{port}", compression=None, proxy=None) as connection:
        connection.recv(timeout=DEADLINE_S)
        connection.send(message)
        assert "found" in connection.recv(timeout=DEADLINE_S)
        with pytest.raises(ConnectionClosedError) as closed:
            connection.recv(timeout=DEADLINE_S)
        assert closed.value.rcvd.code == 1011
    assert not policy.seen
    with client(port) as connection:
        connection.infer(droid_observation())


def test_large_messages_are_refused_before_they_are_read(policy):
    server = PolicyServer(policy, DROID, port=0, limits=Limits(message_bytes=1000))
    with server.in_background() as port, connect(f"ws://127.0.0.1:{port}", proxy=None) as connection:
        connection.recv(timeout=DEADLINE_S)
        connection.send(b"\0" * 1001)
        with pytest.raises(ConnectionClosedError) as closed:
            connection.recv(timeout=DEADLINE_S)
        assert closed.value.rcvd.code == 1009
    assert not policy.seen


def test_tokens(policy):
    with PolicyServer(policy, DROID, port=0, token="right").in_background() as port:  # noqa: S106
        for wrong in (None, "wrong"):
            with pytest.raises(ModelError, match="found HTTP 401"):
                client(port, token=wrong)
        with client(port, token="right") as connection:  # noqa: S106
            connection.infer(droid_observation())
        assert healthy(port)


def test_browsers_are_refused(port):
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"ws://127.0.0.1:{port}", origin="https://example.org", proxy=None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "robot.local"])  # noqa: S104
def test_other_addresses_need_a_token(policy, host):
    with pytest.raises(ModelError, match=f"found {host} without a token"):
        PolicyServer(policy, DROID, host=host)
    PolicyServer(policy, DROID, host=host, token="t")  # noqa: S106
    PolicyServer(policy, DROID, host=host, allow_anonymous=True)


def test_too_many_clients_are_sent_away(policy):
    server = PolicyServer(policy, DROID, port=0, limits=Limits(connections=1))
    with server.in_background() as port, client(port), pytest.raises(ModelError, match="too many clients"):
        client(port)


def test_idle_clients_are_disconnected(policy):
    server = PolicyServer(policy, DROID, port=0, limits=Limits(idle_s=0.01))
    with server.in_background() as port, connect(f"ws://127.0.0.1:{port}", proxy=None) as connection:
        connection.recv(timeout=DEADLINE_S)
        with pytest.raises(ConnectionClosedError):
            connection.recv(timeout=DEADLINE_S)


@pytest.mark.parametrize("number", [-1, 65536])
def test_a_port_that_is_none_is_one_line(policy, number):
    with pytest.raises(ModelError, match=f"port: found {number}, expected 0 to 65535"):
        PolicyServer(policy, DROID, port=number)


def test_a_taken_port_is_one_line(port, policy):
    taken = PolicyServer(policy, DROID, port=port)
    with pytest.raises(ModelError, match=f"at 127.0.0.1:{port}, expected a free port"), taken.in_background():
        pass


def test_no_server_is_one_line(port, policy):
    with pytest.raises(ModelError, match="expected a running server"):
        PolicyClient("ws://127.0.0.1:1", timeout_s=DEADLINE_S)


def test_a_slow_server_is_given_up(port, policy):
    policy.release.clear()
    connection = PolicyClient(port=port, timeout_s=DEADLINE_S)
    connection._timeout_s = 0.01
    with pytest.raises(ModelError, match=r"found no answer in 0\.01 s"):
        connection.infer(droid_observation())
    policy.release.set()


def test_state_may_be_a_number_and_the_prompt_bytes():
    request = check_request(unpack(pack({"observation/gripper_position": 0.5, "prompt": b"go"})), DROID, Limits())
    assert request["prompt"] == "go"
    assert request["observation/gripper_position"] == 0.5
