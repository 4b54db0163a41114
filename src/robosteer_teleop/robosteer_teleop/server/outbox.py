"""Messages down to one client: texts in order, the newest state, the newest image of each camera.

A slow client loses old states and images, never a text, and holds nobody else up.
"""

from __future__ import annotations

import asyncio
from collections import deque

from robosteer_teleop.protocol import Close
from robosteer_teleop.server.transport import Transport, TransportClosedError

MAX_TEXTS = 256
SLOW_BYTES = 200_000  # no image goes out while this much is still in the socket's buffer


class Outbox:
    """Owns sending on one transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._texts: deque[str] = deque()
        self._state: str | None = None
        self._images: dict[int, bytes] = {}
        self._wake = asyncio.Event()
        self._closing: tuple[int, str] | None = None

    def text(self, message: str) -> None:
        """Send a message that must arrive; a client that leaves 256 of them unread is closed."""
        self._texts.append(message)
        if len(self._texts) > MAX_TEXTS:
            self.close(Close.TOO_FAST, "the client does not read")
        self._wake.set()

    def state(self, message: str) -> None:
        """Send the newest state."""
        self._state = message
        self._wake.set()

    def image(self, camera: int, message: bytes) -> None:
        """Send the newest image of a camera, unless a newer one comes before the client is ready for it."""
        self._images[camera] = message
        self._wake.set()

    def close(self, code: int, reason: str) -> None:
        """Close after the texts that are waiting."""
        if self._closing is None:
            self._closing = (code, reason)
        self._wake.set()

    async def run(self) -> None:
        """Send until closed or until the client is gone."""
        try:
            while self._closing is None:
                await self._wake.wait()
                self._wake.clear()
                await self._send_waiting()
            await self._transport.close(*self._closing)
        except TransportClosedError:
            return

    async def _send_waiting(self) -> None:
        while self._texts:
            await self._transport.send(self._texts.popleft())
        if self._state is not None:
            state, self._state = self._state, None
            await self._transport.send(state)
        while self._images and self._transport.buffered() <= SLOW_BYTES:
            camera = next(iter(self._images))
            await self._transport.send(self._images.pop(camera))
