"""A websocket server for policies that openpi's clients can talk to.

It differs from openpi's where a peer could do harm: it listens on loopback unless told otherwise, can ask for a token,
refuses browsers, bounds and validates every message, and never sends a traceback. The model runs in a worker thread,
so that `/healthz` and the protocol's pings are answered during inference.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import http
import ipaddress
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from robosteer_model.errors import ModelError
from robosteer_model.layouts import DataLayout
from robosteer_model.serving.requests import Limits, check_request
from robosteer_model.serving.wire import pack, unpack

logger = logging.getLogger(__name__)
HEALTH_PATH = "/healthz"
INTERNAL_ERROR = 1011
TRY_AGAIN_LATER = 1013


class ServedPolicy(Protocol):
    """What the server needs of a policy."""

    def infer(self, raw_observation: Mapping[str, Any]) -> dict[str, Any]:
        """An action chunk for one observation."""
        ...


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class PolicyServer:
    """Serves one policy.

    Args:
        policy: answers the requests, one at a time.
        layout: the observation fields that it reads.
        metadata: sent to every client first (plain values).
        host: address to listen on; only loopback is allowed without a token.
        port: 0 chooses a free one.
        token: clients must send `Authorization: Api-Key <token>`.
        allow_anonymous: permit other addresses than loopback without a token.
        limits: bounds on what a peer sends.

    Raises:
        ModelError: for an address that others can reach, without a token; for a port that is none.
    """

    def __init__(
        self,
        policy: ServedPolicy,
        layout: DataLayout,
        *,
        metadata: Mapping[str, Any] | None = None,
        host: str = "127.0.0.1",
        port: int = 8000,
        token: str | None = None,
        allow_anonymous: bool = False,
        limits: Limits | None = None,
    ) -> None:
        if token == "":
            raise ModelError(
                "token: found an empty one, expected some characters; make one with `openssl rand -hex 32`"
            )
        if token is None and not allow_anonymous and not is_loopback(host):
            raise ModelError(
                f"host: found {host} without a token, expected loopback; give a token file, or a SSH tunnel"
            )
        if not 0 <= port < 2**16:
            raise ModelError(f"port: found {port}, expected 0 to 65535")
        self._policy, self._layout, self._metadata = policy, layout, dict(metadata or {})
        self._host, self._port, self._token = host, port, token
        self._limits = limits or Limits()
        self._connections = 0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="inference")

    @contextlib.asynccontextmanager
    async def listen(self) -> AsyncIterator[int]:
        """Accept clients inside the block; gives the port.

        Raises:
            ModelError: when the address is taken or not this machine's.
        """
        try:
            server = await serve(
                self._handle,
                self._host,
                self._port,
                compression=None,
                max_size=self._limits.message_bytes,
                max_queue=2,
                origins=[None],  # Browsers send an Origin; pages on the web must not reach a local robot.
                process_request=self._before_handshake,
                server_header=None,
            )
        except OSError as error:
            raise ModelError(
                f"serve: found {error.strerror} at {self._host}:{self._port}, expected a free port"
            ) from None
        async with server:
            yield _port_of(server)

    async def run(self) -> None:
        """Serve until cancelled."""
        async with self.listen() as port:
            logger.info("serving on ws://%s:%d", self._host, port)
            await asyncio.get_running_loop().create_future()

    @contextlib.contextmanager
    def in_background(self) -> Iterator[int]:
        """Serve from a thread inside the block; gives the port."""
        started: Future[int] = Future()
        stop = threading.Event()
        thread = threading.Thread(target=self._background, args=(started, stop), name="policy-server")
        thread.start()
        try:
            yield started.result()
        finally:
            stop.set()
            thread.join()

    def _background(self, started: Future[int], stop: threading.Event) -> None:
        async def main() -> None:
            async with self.listen() as port:
                started.set_result(port)
                await asyncio.to_thread(stop.wait)

        try:
            asyncio.run(main())
        except ModelError as error:
            started.set_exception(error)

    def _before_handshake(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path == HEALTH_PATH:
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        if self._token is not None:
            given = request.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode(), f"Api-Key {self._token}".encode()):
                return connection.respond(http.HTTPStatus.UNAUTHORIZED, "a token is needed\n")
        return None

    async def _handle(self, connection: ServerConnection) -> None:
        if self._connections >= self._limits.connections:
            await connection.close(TRY_AGAIN_LATER, "too many clients")
            return
        self._connections += 1
        try:
            await self._converse(connection)
        except ConnectionClosed:
            logger.info("client %s left", connection.remote_address)
        except TimeoutError:
            await connection.close(INTERNAL_ERROR, "idle for too long")
        except ModelError as error:
            await _refuse(connection, str(error))
        except Exception:
            logger.exception("inference failed")
            await _refuse(connection, "internal error of the policy server; its log says more")
        finally:
            self._connections -= 1

    async def _converse(self, connection: ServerConnection) -> None:
        await connection.send(pack(self._metadata))
        previous_total: float | None = None
        while True:
            message = await asyncio.wait_for(connection.recv(), self._limits.idle_s)
            start = time.monotonic()
            if isinstance(message, str):
                raise ModelError("request: found a text message, expected a binary one")
            answer = await asyncio.get_running_loop().run_in_executor(self._worker, self._answer, message)
            timing = {"infer_ms": (time.monotonic() - start) * 1000}
            if previous_total is not None:
                timing["prev_total_ms"] = previous_total * 1000
            await connection.send(pack(answer | {"server_timing": timing}))
            previous_total = time.monotonic() - start

    def _answer(self, message: bytes) -> dict[str, Any]:
        return self._policy.infer(check_request(unpack(message), self._layout, self._limits))


def _port_of(server: Server) -> int:
    return next(iter(server.sockets)).getsockname()[1]


async def _refuse(connection: ServerConnection, reason: str) -> None:
    """Openpi's way of saying no: the reason as text, then the end of the connection."""
    with contextlib.suppress(ConnectionClosed):
        await connection.send(reason)
        await connection.close(INTERNAL_ERROR, "request refused")
