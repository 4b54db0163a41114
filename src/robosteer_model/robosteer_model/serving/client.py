"""A client of openpi's policy server protocol (our server's or openpi's own)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect

from robosteer_model.errors import ModelError
from robosteer_model.serving.wire import pack, unpack

MAX_ANSWER_BYTES = 16 * 1024 * 1024


class PolicyClient:
    """One connection to a policy server.

    Args:
        host: host name or address, or a whole `ws://` or `wss://` URI.
        port: when `host` is no URI.
        token: sent as `Authorization: Api-Key <token>`.
        timeout_s: longest wait for the connection and for an answer, in seconds.

    Attributes:
        metadata: what the server said about itself.

    Raises:
        ModelError: when there is no such server, or it refuses.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 8000, *, token: str | None = None, timeout_s: float = 10.0
    ) -> None:
        self._uri = host if "://" in host else f"ws://{host}:{port}"
        self._timeout_s = timeout_s
        self._stack = contextlib.ExitStack()
        self._connection = self._connect(token)
        self.metadata: dict[str, Any] = self._map(self._receive())

    def _connect(self, token: str | None) -> ClientConnection:
        headers = {"Authorization": f"Api-Key {token}"} if token else None
        try:
            return self._stack.enter_context(
                connect(
                    self._uri,
                    compression=None,
                    max_size=MAX_ANSWER_BYTES,
                    additional_headers=headers,
                    open_timeout=self._timeout_s,
                    proxy=None,
                )
            )
        except InvalidStatus as error:
            status = error.response.status_code
            hint = "give the server's token" if status == 401 else "check the address"
            raise ModelError(f"policy server {self._uri}: found HTTP {status}, expected a websocket; {hint}") from None
        except (OSError, InvalidHandshake, InvalidURI, TimeoutError) as error:
            raise ModelError(f"policy server {self._uri}: found {error}, expected a running server; start it") from None

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """One action chunk.

        Args:
            observation: openpi's flat keys and `prompt`.

        Returns:
            `actions` (H, d), `policy_timing`, `server_timing`. Arrays are read-only.

        Raises:
            ModelError: when the server refuses, answers nonsense, is gone or too slow; the connection is then dead.
        """
        try:
            self._connection.send(pack(dict(observation)))
        except ConnectionClosed:
            raise self._gone() from None
        return self._map(self._receive())

    def _receive(self) -> bytes:
        try:
            answer = self._connection.recv(timeout=self._timeout_s)
        except TimeoutError:
            self.close()
            raise ModelError(
                f"policy server {self._uri}: found no answer in {self._timeout_s} s; check its load"
            ) from None
        except ConnectionClosed:
            raise self._gone() from None
        if isinstance(answer, str):
            self.close()
            raise ModelError(f"policy server {self._uri} refused: {_last_line(answer)}")
        return answer

    def _gone(self) -> ModelError:
        reason = self._connection.close_reason or "the connection closed"
        return ModelError(f"policy server {self._uri}: found {reason}, expected an answer; connect again")

    def _map(self, answer: bytes) -> dict[str, Any]:
        message = unpack(answer)
        if not isinstance(message, dict):
            raise ModelError(f"policy server {self._uri}: found {type(message).__name__}, expected a map")
        return message

    def close(self) -> None:
        """End the connection."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _last_line(text: str) -> str:
    """The line of openpi's traceback that says what is wrong."""
    lines = text.strip().splitlines()
    return lines[-1][:500] if lines else "without a reason"
