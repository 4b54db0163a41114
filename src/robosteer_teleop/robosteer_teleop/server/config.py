"""What the operator's server is told."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from robosteer_rig.errors import RobosteerError

USER_PORTS = range(1024, 65536)


def default_tls_directory() -> Path:
    """Where this installation keeps its key: `$XDG_DATA_HOME/robosteer/teleop`, or the same under ~/.local/share."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    return Path(base) / "robosteer/teleop"


@dataclasses.dataclass(frozen=True)
class ServerConfig:
    """Addresses, files and limits of an `OperatorServer`.

    Attributes:
        host: IPv4 address to serve TLS on, `auto` for the one that the default route uses (127.0.0.1 without a route),
            or `0.0.0.0` for every interface.
        port: TLS port; 0 for any free one; None to serve loopback only (headset on USB).
        loopback_port: plain HTTP port on 127.0.0.1, for `adb reverse` and the host's own programs; 0 for any free
            one; None for none.
        tls_directory: where the certificate of this installation lies.
        connection_file: JSON file (mode 0600) that tells the host's own programs address and codes; None for none.
        extra_origins: further exact origins under which the page is reached, for example `https://robot.lab.org`.
        stale_s: a gap between frames that is a fault, s.
        takeover_s: how long the operator must be gone before a new code can take the seat, s.
        max_rate_hz: pose frames a second that are too many, averaged over half a second.
        max_json_hz: JSON messages a second that are too many, averaged over two seconds.
        max_message: bytes of the largest message up.
        max_clients: connections at once.
        hello_timeout_s: how long a connection may stay silent before it says who it is, s.
        token_ttl_s: how long a token is good, s.
    """

    host: str = "auto"
    port: int | None = 8443
    loopback_port: int | None = 8080
    tls_directory: Path = dataclasses.field(default_factory=default_tls_directory)
    connection_file: Path | None = None
    extra_origins: tuple[str, ...] = ()
    stale_s: float = 0.1
    takeover_s: float = 5.0
    max_rate_hz: float = 130.0
    max_json_hz: float = 30.0
    max_message: int = 4096
    max_clients: int = 16
    hello_timeout_s: float = 5.0
    token_ttl_s: float = 12 * 3600.0

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.port is None and self.loopback_port is None:
            raise RobosteerError("server: found neither port nor loopback_port, expected at least one; set one")
        for name, port in (("port", self.port), ("loopback_port", self.loopback_port)):
            if port is not None and port != 0 and port not in USER_PORTS:
                raise RobosteerError(f"{name}: found {port}, expected 1024 to 65535 or 0; choose another")
        for name in ("stale_s", "takeover_s", "max_rate_hz", "max_json_hz", "hello_timeout_s", "token_ttl_s"):
            if not getattr(self, name) > 0:
                raise RobosteerError(f"{name}: found {getattr(self, name)}, expected more than 0; raise it")
