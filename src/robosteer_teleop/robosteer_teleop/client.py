"""A client of the operator's link in Python: pairs, streams frames, receives state. For scripted operators and tests.

It speaks exactly what the page speaks (docs/reference/teleop-protocol.md). asyncio runs in a thread of its own; every
public method may be called from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import deque
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.protocol import (
    VERSION,
    Command,
    ImageMessage,
    PoseFrame,
    ProtocolError,
    Role,
    decode_image,
    decode_json,
    encode_json,
)

MAX_UNREAD = 1024
CONNECT_TIMEOUT_S = 10.0


class OperatorClient:
    """One connection. Use it as a context manager.

    Attributes:
        token: what to reconnect with; None until welcomed.
        closed: (close code, reason) once the connection has ended.
    """

    def __init__(
        self,
        url: str,
        *,
        code: str | None = None,
        token: str | None = None,
        role: Role = Role.OPERATOR,
        fingerprint: str = "",
        origin: str | None = None,
    ) -> None:
        """Describe a connection.

        Args:
            url: address of the page, for example `https://192.168.1.5:8443`.
            code: six-digit pairing code.
            token: of an earlier connection, instead of a code.
            role: operator or observer.
            fingerprint: SHA-256 of the server's certificate, hex with or without colons; empty for plain HTTP or a
                certificate that the system trusts.
            origin: `Origin` header; default the origin of `url`.
        """
        self._url = url.rstrip("/")
        self._hello = {"type": "hello", "v": VERSION, "role": role, "code": code, "token": token}
        self._fingerprint = bytes.fromhex(fingerprint.replace(":", ""))
        parts = urlsplit(url)
        self._origin = origin if origin is not None else f"{parts.scheme}://{parts.netloc}"
        self._messages: deque[dict[str, Any]] = deque(maxlen=MAX_UNREAD)
        self._cameras: list[str] = []
        self._images: dict[int, ImageMessage] = {}
        self._epoch_offset_s = time.time() - time.monotonic()
        self._seq = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outgoing: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._thread: threading.Thread | None = None
        self._state: dict[str, Any] = {}
        self.token: str | None = None
        self.closed: tuple[int, str] | None = None

    @classmethod
    def from_file(cls, path: Path, role: Role = Role.OPERATOR) -> OperatorClient:
        """Describe a connection to the server that wrote a connection file on this host.

        Raises:
            RobosteerError: when there is no such file.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise RobosteerError(
                f"{path}: found no connection file ({type(error).__name__}), expected one; start the teleop node first"
            ) from error
        code = content["operator_code" if role is Role.OPERATOR else "observer_code"]
        return cls(content["url"], code=code, role=role, fingerprint=content["fingerprint"])

    def connect(self) -> None:
        """Connect and wait until welcomed.

        Raises:
            RobosteerError: when refused or unreachable; `closed` then has the code.
        """
        welcomed: Future[None] = Future()
        self._thread = threading.Thread(target=self._main, args=(welcomed,), name="operator-client", daemon=True)
        self._thread.start()
        try:
            welcomed.result(timeout=CONNECT_TIMEOUT_S)
        except TimeoutError as error:
            found = f"found no answer in {CONNECT_TIMEOUT_S:g} s, expected a welcome; check the address"
            raise RobosteerError(f"{self._url}: {found}") from error

    def close(self) -> None:
        """Leave, after what is queued has been sent."""
        if self._thread is None:
            return
        with contextlib.suppress(RobosteerError):  # closed from the other end meanwhile
            self._put(None)
        self._thread.join(timeout=CONNECT_TIMEOUT_S)

    def __enter__(self) -> OperatorClient:
        """Connect."""
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave."""
        self.close()

    def clock(self) -> float:
        """The client's clock, s: monotonic, near the Unix epoch."""
        return time.monotonic() + self._epoch_offset_s

    def next_seq(self) -> int:
        """Number for the next frame."""
        self._seq += 1
        return self._seq - 1

    def send_frame(self, frame: PoseFrame) -> None:
        """Send a pose frame."""
        self._put(frame.encode())

    def send_command(self, name: Command | str, argument: str | float | None = None) -> None:
        """Send an episode command."""
        self.send({"type": "command", "name": Command(name), "argument": argument})

    def send(self, message: dict[str, Any]) -> None:
        """Send a JSON message."""
        self._put(encode_json(message))

    def send_raw(self, data: str | bytes) -> None:
        """Send anything; the tests of the server need it."""
        self._put(data)

    @property
    def state(self) -> dict[str, Any]:
        """The newest state message; empty before the first."""
        return self._state

    def poll_messages(self) -> list[dict[str, Any]]:
        """JSON messages except state and ping since the last call, oldest first."""
        taken = []
        while self._messages:
            taken.append(self._messages.popleft())
        return taken

    def latest_image(self, camera: str) -> ImageMessage | None:
        """The newest image of a camera; send `{"type": "cameras", "enabled": True}` first."""
        return self._images.get(self._cameras.index(camera)) if camera in self._cameras else None

    def _put(self, data: str | bytes | None) -> None:
        try:
            if self._loop is None:
                raise RuntimeError
            self._loop.call_soon_threadsafe(self._outgoing.put_nowait, data)
        except RuntimeError as error:  # never connected, or the loop is closed
            message = f"{self._url}: found no connection ({self.closed}), expected one; connect again"
            raise RobosteerError(message) from error

    def _main(self, welcomed: Future[None]) -> None:
        try:
            asyncio.run(self._run(welcomed))
        except (aiohttp.ClientError, TimeoutError, ProtocolError) as error:
            self.closed = self.closed or (getattr(error, "status", 1006), f"{type(error).__name__} {error}")
        if not welcomed.done():
            reason = f"found {self.closed}, expected a welcome; check the address and the code"
            welcomed.set_exception(RobosteerError(f"{self._url}: {reason}"))

    async def _run(self, welcomed: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        trust = aiohttp.Fingerprint(self._fingerprint) if self._fingerprint else True
        address = f"{self._url.replace('http', 'ws', 1)}/ws"
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(address, origin=self._origin, ssl=trust, compress=0, max_msg_size=0) as socket,
        ):
            await socket.send_str(encode_json(self._hello))
            sender = asyncio.create_task(self._send(socket))
            while (message := await socket.receive()).type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                self._take(message.data, welcomed)
            self.closed = (socket.close_code or 1006, str(message.extra or ""))
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _send(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while (data := await self._outgoing.get()) is not None:
            await (socket.send_str(data) if isinstance(data, str) else socket.send_bytes(data))
        await socket.close()

    def _take(self, data: str | bytes, welcomed: Future[None]) -> None:
        if isinstance(data, bytes):
            image = decode_image(data)
            self._images[image.camera] = image
            return
        message = decode_json(data)
        match message["type"]:
            case "state":
                self._state = message
            case "ping":
                self._outgoing.put_nowait(encode_json({"type": "pong", "id": message["id"], "client_s": self.clock()}))
            case kind:
                if kind == "welcome":
                    self.token = message["token"]
                    welcomed.set_result(None)
                if kind == "cameras":
                    self._cameras = message["names"]
                self._messages.append(message)
