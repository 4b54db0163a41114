"""The wire under the protocol. WebSocket today; a WebRTC data channel would be a second class here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from aiohttp import WSMsgType, web


class TransportClosedError(Exception):
    """The other end is gone."""


class Transport(Protocol):
    """An ordered stream of text and binary messages to one client."""

    address: str

    def messages(self) -> AsyncIterator[str | bytes]:
        """Messages of the client until it leaves."""
        ...

    def buffered(self) -> int:
        """Bytes accepted for sending that have not left yet."""
        ...

    async def send(self, message: str | bytes) -> None:
        """Send a message.

        Raises:
            TransportClosedError: when the client is gone.
        """
        ...

    async def close(self, code: int, reason: str) -> None:
        """Say why and close."""
        ...


class WebSocketTransport:
    """A WebSocket of aiohttp."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self._socket = socket
        self._request = request
        self.address = request.remote or "unknown"

    async def messages(self) -> AsyncIterator[str | bytes]:
        """Messages until the socket closes; a message beyond the size limit closes it with 1009."""
        async for message in self._socket:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                yield message.data

    def buffered(self) -> int:
        """Bytes in the socket's write buffer."""
        transport = self._request.transport
        return transport.get_write_buffer_size() if transport is not None else 0  # type: ignore[attr-defined]

    async def send(self, message: str | bytes) -> None:
        """Send text or bytes."""
        try:
            if isinstance(message, str):
                await self._socket.send_str(message)
            else:
                await self._socket.send_bytes(message)
        except (ConnectionError, RuntimeError) as error:  # aiohttp: RuntimeError when the socket is closing
            raise TransportClosedError from error

    async def close(self, code: int, reason: str) -> None:
        """Close with a reason of at most 123 bytes, as the protocol allows."""
        await self._socket.close(code=code, message=reason.encode()[:123])
