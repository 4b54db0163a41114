"""Clients of a running operator server, and what they come to."""

import time

import pytest

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.client import OperatorClient
from robosteer_teleop.protocol import PoseFrame, Role

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


def headers_host(server):
    return server.access.urls[0].partition("://")[2]
