"""The operator's server: asyncio in a thread of its own behind methods that any thread may call."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from aiohttp import web

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.protocol import HAPTICS, encode_json
from robosteer_teleop.server.access import PairingDesk, origin_of
from robosteer_teleop.server.certificate import (
    LOOPBACK,
    Certificate,
    certificate_names,
    default_address,
    ensure_certificate,
    host_names,
    local_addresses,
    write_private,
)
from robosteer_teleop.server.config import ServerConfig
from robosteer_teleop.server.hub import Hub
from robosteer_teleop.server.link import Board, LinkEvent, ReceivedFrame
from robosteer_teleop.server.pages import make_app

EVERY_INTERFACE = "0.0.0.0"  # noqa: S104 - only when the user asks for it
MAX_STATE_BYTES = 16_384


@dataclasses.dataclass(frozen=True)
class Access:
    """What an operator needs to get in.

    Attributes:
        urls: addresses of the page, best first.
        operator_code: six digits; works once.
        observer_code: six digits.
        fingerprint: SHA-256 of the certificate; empty when only loopback is served.
        certificate_note: why the certificate is new (a new one means a new warning page); None when it is not.
    """

    urls: tuple[str, ...]
    operator_code: str
    observer_code: str
    fingerprint: str
    certificate_note: str | None = None


def access_lines(access: Access) -> list[str]:
    """What a terminal shows to the operator."""
    lines = [f"operator page  {access.urls[0]}"]
    lines += [f"           or  {url}" for url in access.urls[1:]]
    lines.append(f"operator code  {access.operator_code}    observer code  {access.observer_code}")
    if access.fingerprint:
        lines.append(f"  certificate  SHA-256 {access.fingerprint}")
    if access.certificate_note:
        lines.append(f"  certificate  new, because {access.certificate_note}: the browser will warn once")
    return lines


class OperatorServer:
    """Serves the page and one operator. Everything public may be called from any thread."""

    def __init__(self, config: ServerConfig, on_frame: Callable[[ReceivedFrame], None] | None = None) -> None:
        self._config = config
        self._board = Board(on_frame)
        self._desk = PairingDesk(config.token_ttl_s)
        self._hub = Hub(config, self._board, self._desk)
        self._certificate: Certificate | None = None
        self._origins: tuple[str, ...] = ()
        self._local_url = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Bind and serve; returns when clients can connect.

        Raises:
            RobosteerError: when an address or port cannot be used, or the certificate is broken.
        """
        if self._thread is not None:
            raise RuntimeError("the server has been started already")
        if self._config.port is not None:
            self._certificate = ensure_certificate(self._config.tls_directory, certificate_names())
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._main, args=(ready,), name="operator-server", daemon=True)
        self._thread.start()
        ready.result()

    def stop(self) -> None:
        """Close every connection and return when the thread has ended."""
        if self._thread is None or not self._thread.is_alive():
            return
        self._call(self._stop.set)
        self._thread.join()

    def __enter__(self) -> OperatorServer:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    @property
    def access(self) -> Access:
        """Addresses and codes as they are now."""
        fingerprint = self._certificate.fingerprint if self._certificate else ""
        note = self._certificate.renewed_because if self._certificate else None
        desk = self._desk
        return Access(self._origins, desk.operator_code, desk.observer_code, fingerprint, note)

    @property
    def armed(self) -> bool:
        """The arming switch."""
        return self._board.armed

    def latest(self) -> ReceivedFrame | None:
        """The newest frame that passed every check."""
        return self._board.latest.get()

    def poll_events(self) -> list[LinkEvent]:
        """Events since the last call, oldest first."""
        return self._board.events.drain()

    def set_armed(self, armed: bool) -> None:
        """Set the arming switch."""
        self._call(lambda: self._board.arm(armed, time.monotonic()))

    def publish_state(self, state: dict[str, Any]) -> None:
        """Replace the state that clients see.

        Raises:
            ValueError: for a state that is no JSON, has the reserved keys `type` or `link`, or is too long.
        """
        if {"type", "link"} & set(state) or len(encode_json(state)) > MAX_STATE_BYTES:
            raise ValueError(f"state: expected at most {MAX_STATE_BYTES} bytes without the keys type and link")
        self._call(lambda: self._hub.set_state(state))

    def send_haptic(self, name: str) -> None:
        """Send a cue of `protocol.HAPTICS` to the operator.

        Raises:
            KeyError: for another name.
        """
        HAPTICS[name]
        self._call(lambda: self._hub.haptic(name))

    def publish_image(self, camera: str, jpeg: bytes) -> None:
        """Show an image to the clients that asked for images."""
        self._call(lambda: self._hub.image(camera, jpeg))

    def release_operator(self) -> None:
        """Take-over: free the seat, disarm, void the old token, make a new code."""
        self._call(self._hub.release_operator)

    def link_state(self) -> dict[str, Any]:
        """Rate, pose age, round trip, clock offset, counters."""
        result: Future[dict[str, Any]] = Future()
        self._call(lambda: result.set_result(self._hub.link_state(time.monotonic())))
        return result.result(timeout=5.0)

    def _call(self, function: Callable[[], object]) -> None:
        if self._loop is None:
            raise RuntimeError("the server has not been started")
        self._loop.call_soon_threadsafe(function)

    def _main(self, ready: Future[None]) -> None:
        try:
            asyncio.run(self._run(ready))
        except RobosteerError as error:
            ready.set_exception(error)
        finally:
            if not ready.done():
                ready.set_exception(RuntimeError("the server's thread ended early"))

    async def _run(self, ready: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        app = make_app(self._hub, lambda: frozenset(self._origins), self._about, self._config.max_message)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        tasks = []
        try:
            self._origins = (*await self._bind(runner), *self._config.extra_origins)
            self._write_connection_file()
            broadcast, stop = asyncio.create_task(self._hub.broadcast()), asyncio.create_task(self._stop.wait())
            tasks = [broadcast, stop, asyncio.create_task(self._keep_connection_file())]
            ready.set_result(None)
            await asyncio.wait([broadcast, stop], return_when=asyncio.FIRST_COMPLETED)
            if not stop.done():  # A bug of ours ends the server and its callers: half a server would go unnoticed.
                broadcast.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._hub.close()
            await runner.cleanup()
            self._remove_connection_file()

    async def _bind(self, runner: web.AppRunner) -> list[str]:
        """Open the ports; returns the origins under which the page is reached."""
        origins = []
        if self._certificate is not None and self._config.port is not None:
            origins += await self._bind_tls(runner, self._certificate, self._config.port)
        if self._config.loopback_port is not None:
            site = web.TCPSite(runner, LOOPBACK, self._config.loopback_port)
            port = await self._open(runner, site, LOOPBACK, self._config.loopback_port)
            origins += [origin_of("http", name, port) for name in ("localhost", LOOPBACK)]
        self._local_url = origins[-1]
        return origins

    async def _bind_tls(self, runner: web.AppRunner, certificate: Certificate, port: int) -> list[str]:
        everywhere = self._config.host == EVERY_INTERFACE
        host = default_address() if self._config.host == "auto" else self._config.host
        for address in [host] if everywhere else sorted({host, LOOPBACK}, reverse=True):
            site = web.TCPSite(runner, address, port, ssl_context=certificate.context())
            port = await self._open(runner, site, address, port)
        names = [*(local_addresses() if everywhere else [host]), *host_names(), LOOPBACK]
        return [origin_of("https", name, port) for name in dict.fromkeys(names)]

    async def _open(self, runner: web.AppRunner, site: web.TCPSite, host: str, port: int) -> int:
        try:
            await site.start()
        except OSError as error:
            raise RobosteerError(
                f"operator server: found {host}:{port} not available ({error.strerror}), expected a free port of this "
                "host; choose another port or stop the program that has it"
            ) from error
        return int(runner.addresses[-1][1])

    def _about(self) -> dict[str, str]:
        return {"name": "RoboSteer", "fingerprint": self.access.fingerprint}

    def _write_connection_file(self) -> None:
        if self._config.connection_file is not None:
            content = {"url": self._local_url, **dataclasses.asdict(self.access)}
            write_private(self._config.connection_file, json.dumps(content, indent=1).encode())

    async def _keep_connection_file(self) -> None:
        """Rewrite the connection file when a code has changed."""
        written = self.access
        while self._config.connection_file is not None:
            await asyncio.sleep(0.05)
            if self.access != written:
                written = self.access
                self._write_connection_file()

    def _remove_connection_file(self) -> None:
        if self._config.connection_file is not None:
            self._config.connection_file.unlink(missing_ok=True)
