"""All connections: lets them in, gives them a role, passes messages up and down. Knows transports, not sockets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

from robosteer_teleop.protocol import (
    HAPTICS,
    VERSION,
    Close,
    ProtocolError,
    Role,
    decode_json,
    encode_image,
    encode_json,
)
from robosteer_teleop.server.access import Grant, OperatorSeat, PairingDesk, RefusedError
from robosteer_teleop.server.config import ServerConfig
from robosteer_teleop.server.gate import TokenBucket, TooFastError
from robosteer_teleop.server.link import Board, LinkEventKind
from robosteer_teleop.server.operator_link import OperatorLink
from robosteer_teleop.server.outbox import Outbox
from robosteer_teleop.server.transport import Transport

STATE_PERIOD_S = 0.05
WATCH_PERIOD_S = 0.01
PING_PERIOD_S = 1.0
FIRST_PINGS = 5  # quick ones, so that pose age is known soon
JSON_BURST_S = 2.0


@dataclasses.dataclass(eq=False)
class Client:
    """A connection that was let in."""

    grant: Grant
    transport: Transport
    outbox: Outbox
    json_bucket: TokenBucket
    link: OperatorLink | None
    wants_images: bool = False


class Hub:
    """Runs in one event loop; every method belongs to that loop's thread."""

    def __init__(self, config: ServerConfig, board: Board, desk: PairingDesk) -> None:
        self._config = config
        self._board = board
        self._desk = desk
        self._seat = OperatorSeat(config.takeover_s)
        self._clients: set[Client] = set()
        self._connections = 0
        self._state: dict[str, Any] = {}
        self._cameras: list[str] = []
        self._image_counts: dict[str, int] = {}

    @property
    def operator(self) -> Client | None:
        """The connected operator."""
        return next((client for client in self._clients if client.link is not None), None)

    async def serve(self, transport: Transport) -> None:
        """The whole life of one connection."""
        if self._connections >= self._config.max_clients:
            await transport.close(Close.TOO_FAST, "too many connections")
            return
        self._connections += 1
        messages = transport.messages()
        try:
            grant = self._admit(await self._hello(messages), transport.address)
            await self._serve_granted(grant, transport, messages)
        except RefusedError as refusal:
            await transport.close(refusal.code, str(refusal))
        finally:
            self._connections -= 1

    async def _hello(self, messages: AsyncIterator[str | bytes]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._config.hello_timeout_s):
                first = await anext(messages)
            return decode_json(first if isinstance(first, str) else "")
        except TimeoutError as error:
            raise RefusedError(Close.HELLO_TIMEOUT, "no hello") from error
        except (StopAsyncIteration, ProtocolError) as error:
            raise RefusedError(Close.MALFORMED, "expected a hello") from error

    def _admit(self, hello: dict[str, Any], address: str) -> Grant:
        now = time.monotonic()
        try:
            grant = self._desk.admit(hello, address, now)
            if grant.role is Role.OPERATOR:
                self._seat.check(grant, now)
        except RefusedError as refusal:
            if refusal.code in (Close.CREDENTIALS, Close.LOCKED):
                locked = refusal.code is Close.LOCKED
                kind = LinkEventKind.LOCKED_OUT if locked else LinkEventKind.PAIRING_FAILED
                self._board.emit(kind, now, address=address)
            raise
        return grant

    async def _serve_granted(self, grant: Grant, transport: Transport, messages: AsyncIterator[str | bytes]) -> None:
        client = self._welcome(grant, transport)
        tasks = [asyncio.create_task(client.outbox.run())]
        if client.link is not None:
            tasks += [
                asyncio.create_task(self._watch(client.link)),
                asyncio.create_task(self._ping(client.link, client.outbox)),
            ]
        reason = "left"
        try:
            async for message in messages:
                self._take(client, message)
        except ProtocolError as error:
            reason = str(error)
            await self._expel(client, Close.MALFORMED, reason, LinkEventKind.BAD_FRAME)
        except TooFastError as error:
            reason = str(error)
            await self._expel(client, Close.TOO_FAST, reason, LinkEventKind.TOO_FAST)
        finally:
            self._clients.discard(client)
            self._say_goodbye(client, reason)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _welcome(self, grant: Grant, transport: Transport) -> Client:
        now = time.monotonic()
        operator = grant.role is Role.OPERATOR
        link = OperatorLink(grant.session, self._config, self._board) if operator else None
        bucket = TokenBucket(self._config.max_json_hz, self._config.max_json_hz * JSON_BURST_S)
        client = Client(grant, transport, Outbox(transport), bucket, link)
        if operator:
            self._seat_operator(grant, transport.address, now)
        else:
            self._board.emit(LinkEventKind.OBSERVER_CONNECTED, now, address=transport.address)
        self._clients.add(client)
        welcome = {
            "type": "welcome",
            "v": VERSION,
            "role": grant.role,
            "token": self._desk.make_token(grant, now),
            "expires_s": self._config.token_ttl_s,
            "haptics": {name: dataclasses.asdict(haptic) for name, haptic in HAPTICS.items()},
        }
        client.outbox.text(encode_json(welcome))
        client.outbox.text(encode_json({"type": "cameras", "names": self._cameras}))
        client.outbox.state(self._state_message(now))
        return client

    def _seat_operator(self, grant: Grant, address: str, now: float) -> None:
        old = self.operator
        resumed = self._seat.holder == grant.session
        if old is not None:  # the same session came back before its old socket was known to be dead
            self._clients.discard(old)
            old.outbox.close(Close.REPLACED, "this session connected again")
            self._board.emit(LinkEventKind.OPERATOR_DISCONNECTED, now, session=grant.session, reason="replaced")
        previous = self._seat.take(grant.session)
        if not resumed:
            self._board.arm(False, now)
        if previous is not None:
            self._board.emit(LinkEventKind.OPERATOR_CHANGED, now, session=grant.session, previous=previous)
        if grant.by_code:
            self._desk.renew_operator_code()
            self._board.emit(LinkEventKind.CODE_CHANGED, now)
        detail = {"session": grant.session, "address": address, "resumed": resumed}
        self._board.emit(LinkEventKind.OPERATOR_CONNECTED, now, **detail)

    def _say_goodbye(self, client: Client, reason: str) -> None:
        now = time.monotonic()
        if client.link is None:
            self._board.emit(LinkEventKind.OBSERVER_DISCONNECTED, now, address=client.transport.address)
        elif self.operator is None and self._seat.holder == client.grant.session:
            self._seat.leave(now)
            self._board.emit(LinkEventKind.OPERATOR_DISCONNECTED, now, session=client.grant.session, reason=reason)

    async def _expel(self, client: Client, code: Close, reason: str, kind: LinkEventKind) -> None:
        if client.link is not None:
            self._board.emit(kind, time.monotonic(), reason=reason)
        await client.transport.close(code, reason)

    def _take(self, client: Client, data: str | bytes) -> None:
        now = time.monotonic()
        if client.link is not None and client is not self.operator:
            return  # replaced: what is still in its pipe counts for nothing
        if isinstance(data, bytes):
            if client.link is None:
                raise ProtocolError("observers send no frames")
            client.link.frame(data, now)
            return
        client.json_bucket.take(now)
        message = decode_json(data)
        if message["type"] == "cameras":
            client.wants_images = message.get("enabled") is True
        elif client.link is not None:
            client.link.message(message, now)
        elif message["type"] != "pong":
            raise ProtocolError(f"observers send no {message['type'][:40]}")

    async def _watch(self, link: OperatorLink) -> None:
        while True:
            await asyncio.sleep(WATCH_PERIOD_S)
            link.watch(time.monotonic())

    async def _ping(self, link: OperatorLink, outbox: Outbox) -> None:
        for number in itertools.count():
            outbox.text(encode_json({"type": "ping", "id": link.clock.ping(time.monotonic())}))
            await asyncio.sleep(PING_PERIOD_S / 10 if number < FIRST_PINGS else PING_PERIOD_S)

    async def broadcast(self) -> None:
        """Send the newest state to everybody, again and again."""
        while True:
            await asyncio.sleep(STATE_PERIOD_S)
            if self._clients:
                message = self._state_message(time.monotonic())
                for client in self._clients:
                    client.outbox.state(message)

    def _state_message(self, now: float) -> str:
        return encode_json({"type": "state", **self._state, "link": self.link_state(now)})

    def link_state(self, now: float) -> dict[str, Any]:
        """What is known about the operator's link."""
        operator = self.operator
        link = operator.link if operator is not None else None
        latest = self._board.latest.get()
        return {
            "connected": link is not None,
            "armed": self._board.armed,
            "observers": sum(client.link is None for client in self._clients),
            "frames": self._board.frames,
            "rate_hz": link.gate.rate_hz(now) if link else 0.0,
            "lost": link.gate.lost if link else 0,
            "out_of_order": link.gate.out_of_order if link else 0,
            "pose_age_s": latest.pose_age_s if link and latest else None,
            "rtt_s": link.clock.rtt_s if link else None,
            "clock_offset_s": link.clock.offset_s if link else None,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Replace the published state."""
        self._state = state

    def haptic(self, name: str) -> None:
        """Send a cue to the operator."""
        operator = self.operator
        if operator is not None:
            operator.outbox.text(encode_json({"type": "haptic", "name": name, **dataclasses.asdict(HAPTICS[name])}))

    def image(self, camera: str, jpeg: bytes) -> None:
        """Send an image to the clients that asked for images."""
        if camera not in self._cameras:
            self._cameras.append(camera)
            for client in self._clients:
                client.outbox.text(encode_json({"type": "cameras", "names": self._cameras}))
        viewers = [client for client in self._clients if client.wants_images]
        if viewers:
            count = self._image_counts[camera] = self._image_counts.get(camera, -1) + 1
            index = self._cameras.index(camera)
            message = encode_image(index, count, time.monotonic(), jpeg)
            for client in viewers:
                client.outbox.image(index, message)

    def release_operator(self) -> None:
        """Free the seat, disarm, void the operator's token and code."""
        now = time.monotonic()
        operator = self.operator
        self._board.arm(False, now)
        self._seat.release()
        self._desk.renew_operator_code()
        self._board.emit(LinkEventKind.CODE_CHANGED, now)
        if operator is not None:
            self._clients.discard(operator)
            operator.outbox.close(Close.REPLACED, "the seat was freed on the robot host")
            detail = {"session": operator.grant.session, "reason": "released"}
            self._board.emit(LinkEventKind.OPERATOR_DISCONNECTED, now, **detail)

    async def close(self) -> None:
        """Say goodbye to everybody."""
        for client in list(self._clients):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await client.transport.close(Close.SHUTDOWN, "the server stops")
