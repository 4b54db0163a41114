"""`robosteer teleop`: the operator's link: its certificate, a check-up of a headset, replays."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import tyro

from robosteer_teleop.doctor_command import Doctor
from robosteer_teleop.replay_command import ReplayLog


@dataclasses.dataclass(frozen=True)
class Show:
    """Show the certificate's fingerprint, names and end; exit code 1 when there is none."""

    directory: Path | None = None
    """Where the certificate lies; default: this installation's directory."""
    json: bool = False
    """Print JSON."""


@dataclasses.dataclass(frozen=True)
class Renew:
    """Make a new key and certificate for this host's names and addresses. Browsers will warn once more."""

    directory: Path | None = None
    """Where the certificate lies; default: this installation's directory."""


Certificates = Annotated[Show, tyro.conf.subcommand("show")] | Annotated[Renew, tyro.conf.subcommand("renew")]


@dataclasses.dataclass(frozen=True)
class Cert:
    """The TLS certificate of the operator's page."""

    action: Certificates


Command = (
    Annotated[Cert, tyro.conf.subcommand("cert")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
    | Annotated[ReplayLog, tyro.conf.subcommand("replay")]
)


def main(argv: list[str]) -> int:
    """Run `robosteer teleop <cert|doctor|replay> ...`.

    Raises:
        RobosteerError: for a certificate or a log that cannot be read, or a port that cannot be used.
    """
    from robosteer_teleop.server.config import default_tls_directory

    config = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
    command: Any = tyro.cli(Command, prog="robosteer teleop", description=__doc__, args=argv, config=config)  # pyright: ignore[reportArgumentType, reportCallIssue]
    if isinstance(command, Doctor | ReplayLog):
        return command.run()
    directory = command.action.directory or default_tls_directory()
    return _renew(directory) if isinstance(command.action, Renew) else _show(directory, command.action.json)


def _show(directory: Path, as_json: bool) -> int:
    from robosteer_teleop.server.certificate import PEM_FILE, read_certificate

    path = directory / PEM_FILE
    if not path.exists():
        print(f"{path}: no certificate yet; the first start of the teleop node makes one")
        return 1
    _print(read_certificate(path), as_json)
    return 0


def _renew(directory: Path) -> int:
    from robosteer_teleop.server.certificate import certificate_names, make_certificate

    _print(make_certificate(directory, certificate_names()), as_json=False)
    print("     note  every browser that trusted the old one warns once more")
    return 0


def _print(certificate: Any, as_json: bool) -> None:
    if as_json:
        content = {name: getattr(certificate, name) for name in ("fingerprint", "names")}
        print(json.dumps({**content, "path": str(certificate.path), "expires": certificate.expires.isoformat()}))
        return
    print(f"     file  {certificate.path}")
    print(f"  SHA-256  {certificate.fingerprint}")
    print(f"    names  {', '.join(certificate.names)}")
    print(f"  expires  {certificate.expires:%Y-%m-%d}")
