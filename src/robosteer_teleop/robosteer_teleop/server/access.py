"""Who may connect, and as what: pairing codes, tokens, the operator's seat, the origins. Pure; time is passed in."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import secrets
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from robosteer_teleop.protocol import VERSION, Close, Role

TRIES = 5  # wrong codes from one address within the window
TRIES_ALL = 30  # wrong codes from all addresses within the window
WINDOW_S = 60.0
LOCK_S = 60.0
_EVERYBODY = "*"


class RefusedError(Exception):
    """A connection that is not let in.

    Attributes:
        code: close code.
    """

    def __init__(self, code: Close, reason: str) -> None:
        self.code = code
        super().__init__(reason)


@dataclasses.dataclass(frozen=True)
class Grant:
    """A client that proved itself: its session, its role, whether by code (True) or by token."""

    session: str
    role: Role
    by_code: bool


def six_digits() -> str:
    """A new pairing code."""
    return f"{secrets.randbelow(10**6):06d}"


class PairingDesk:
    """Checks codes and tokens. The key lives in this object only: a restart voids every token."""

    def __init__(self, token_ttl_s: float, make_code: Callable[[], str] = six_digits) -> None:
        self._ttl_s = token_ttl_s
        self._make_code = make_code
        self._key = secrets.token_bytes(32)
        self._wrong: dict[str, deque[float]] = defaultdict(deque)
        self._locked_until: dict[str, float] = {}
        self.operator_code = make_code()
        self.observer_code = self._another(self.operator_code)

    def _another(self, other: str) -> str:
        code = self._make_code()
        while code == other:
            code = self._make_code()
        return code

    def renew_operator_code(self) -> None:
        """Void the operator's code and make another."""
        self.operator_code = self._another(self.observer_code)

    def admit(self, hello: dict[str, Any], address: str, now: float) -> Grant:
        """Check the first message of a connection.

        Raises:
            RefusedError: with MALFORMED, CREDENTIALS or LOCKED.
        """
        if hello.get("type") != "hello" or hello.get("v") != VERSION or hello.get("role") not in list(Role):
            raise RefusedError(Close.MALFORMED, f"expected a hello of version {VERSION} with a role")
        role, code, token = Role(hello["role"]), hello.get("code"), hello.get("token")
        if isinstance(token, str):
            return self._read_token(token, role, now)
        if not isinstance(code, str):
            raise RefusedError(Close.CREDENTIALS, "a code is needed")
        self._refuse_locked(address, now)
        expected = self.operator_code if role is Role.OPERATOR else self.observer_code
        if not hmac.compare_digest(code.encode(), expected.encode()):
            self._count_wrong(address, now)
            self._refuse_locked(address, now)
            raise RefusedError(Close.CREDENTIALS, "wrong code")
        self._wrong.pop(address, None)
        return Grant(secrets.token_hex(8), role, by_code=True)

    def make_token(self, grant: Grant, now: float) -> str:
        """A token with which the same session comes back."""
        body = f"{grant.session}.{grant.role}.{now + self._ttl_s:.3f}"
        return f"{body}.{self._sign(body)}"

    def _sign(self, body: str) -> str:
        return hmac.new(self._key, body.encode(), hashlib.sha256).hexdigest()

    def _read_token(self, token: str, role: Role, now: float) -> Grant:
        body, _, signature = token.rpartition(".")
        if not hmac.compare_digest(self._sign(body).encode(), signature.encode()):
            raise RefusedError(Close.CREDENTIALS, "unknown token")
        session, signed_role, expires = body.split(".", 2)
        if now > float(expires):
            raise RefusedError(Close.CREDENTIALS, "the token has expired")
        if signed_role != role:
            raise RefusedError(Close.CREDENTIALS, f"the token is for the role {signed_role}")
        return Grant(session, role, by_code=False)

    def _refuse_locked(self, address: str, now: float) -> None:
        until = max(self._locked_until.get(address, 0.0), self._locked_until.get(_EVERYBODY, 0.0))
        if now < until:
            raise RefusedError(Close.LOCKED, f"too many wrong codes; wait {until - now:.0f} s")

    def _count_wrong(self, address: str, now: float) -> None:
        for key, limit in ((address, TRIES), (_EVERYBODY, TRIES_ALL)):
            times = self._wrong[key]
            times.append(now)
            while times and times[0] < now - WINDOW_S:
                times.popleft()
            if len(times) >= limit:
                self._locked_until[key] = now + LOCK_S
                times.clear()


class OperatorSeat:
    """One operator. The seat outlives a lost connection, so that only the same session slips back in."""

    def __init__(self, takeover_s: float) -> None:
        self._takeover_s = takeover_s
        self._gone_since: float | None = None
        self.holder: str | None = None

    def check(self, grant: Grant, now: float) -> None:
        """Raise unless the grant may take the seat now.

        Raises:
            RefusedError: OPERATOR_TAKEN, or CREDENTIALS for a token whose session lost the seat.
        """
        if grant.session == self.holder:
            return
        if not grant.by_code:
            raise RefusedError(Close.CREDENTIALS, "another session took the seat; enter the new code")
        if self.holder is None:
            return
        if self._gone_since is None:
            raise RefusedError(Close.OPERATOR_TAKEN, "another operator is connected")
        if now - self._gone_since < self._takeover_s:
            raise RefusedError(Close.OPERATOR_TAKEN, f"the operator left less than {self._takeover_s:g} s ago")

    def take(self, session: str) -> str | None:
        """Seat a session; returns the one that it displaces, if another one."""
        previous = self.holder if self.holder != session else None
        self.holder, self._gone_since = session, None
        return previous

    def leave(self, now: float) -> None:
        """The holder's connection is gone."""
        self._gone_since = now

    def release(self) -> None:
        """Free the seat; the holder's token is void from now on."""
        self.holder, self._gone_since = None, None


def origin_of(scheme: str, host: str, port: int) -> str:
    """An origin as browsers write it."""
    default = {"http": 80, "https": 443}[scheme]
    return f"{scheme}://{host}" if port == default else f"{scheme}://{host}:{port}"
