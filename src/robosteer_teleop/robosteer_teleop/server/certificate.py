"""The key and certificate of this installation: made once, kept, renewed only when it must be."""

from __future__ import annotations

import dataclasses
import datetime
import fcntl
import hashlib
import ipaddress
import os
import socket
import ssl
import struct
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from robosteer_rig.errors import RobosteerError

LOOPBACK = "127.0.0.1"
VALID_DAYS = 397  # what browsers accept at most
PEM_FILE = "operator-server.pem"  # key and certificate in one file, so that they cannot disagree
_SIOCGIFADDR = 0x8915


@dataclasses.dataclass(frozen=True)
class Certificate:
    """A certificate on disk.

    Attributes:
        path: PEM file with key and certificate, mode 0600.
        fingerprint: SHA-256 of the certificate, upper-case hex pairs joined by colons, as browsers show it.
        names: DNS names and IP addresses that it is good for.
        expires: end of validity.
        renewed_because: why it was made in this call; None when it was there already.
    """

    path: Path
    fingerprint: str
    names: tuple[str, ...]
    expires: datetime.datetime
    renewed_because: str | None = None

    def context(self) -> ssl.SSLContext:
        """TLS context of the server."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.path)
        return context


def fingerprint_of(der: bytes) -> str:
    """SHA-256 of a certificate, as browsers show it."""
    return hashlib.sha256(der).digest().hex(":").upper()


def local_addresses() -> list[str]:
    """IPv4 addresses of this host's interfaces, without loopback."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, interface in socket.if_nameindex():
            request = struct.pack("256s", interface.encode()[:15])
            try:
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
            except OSError:  # an interface without an IPv4 address
                continue
            found.append(socket.inet_ntoa(answer[20:24]))
    return sorted({address for address in found if not ipaddress.ip_address(address).is_loopback})


def default_address() -> str:
    """The address that packets to the outside leave from; 127.0.0.1 without a route. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return LOOPBACK
        return str(probe.getsockname()[0])


def certificate_names() -> list[str]:
    """Every name and address under which a browser may reach this host."""
    return [*host_names(), *local_addresses(), LOOPBACK]


def host_names() -> list[str]:
    """Names under which a browser may reach this host."""
    name = socket.gethostname().split(".")[0].lower()
    return sorted({name, f"{name}.local", "localhost"})


def ensure_certificate(directory: Path, names: list[str], now: datetime.datetime | None = None) -> Certificate:
    """The certificate of this installation; made when there is none, it has expired, or a name is missing.

    A new certificate costs the operator a new warning page, so nothing else renews it.

    Raises:
        RobosteerError: when the file is there and cannot be read.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    path = directory / PEM_FILE
    if not path.exists():
        return make_certificate(directory, names, now, "there was none")
    found = read_certificate(path)
    missing = sorted(set(names) - set(found.names))
    if missing:
        return make_certificate(directory, names, now, f"it did not name {', '.join(missing)}")
    if now >= found.expires:
        return make_certificate(directory, names, now, f"it expired on {found.expires:%Y-%m-%d}")
    return found


def read_certificate(path: Path) -> Certificate:
    """Read the certificate of an installation.

    Raises:
        RobosteerError: for a file that is no key and certificate, or that others may read.
    """
    try:
        data = path.read_bytes()
        certificate = x509.load_pem_x509_certificate(data)
        serialization.load_pem_private_key(data, password=None)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise RobosteerError(
            f"{path}: found no key with certificate ({type(error).__name__}), expected both; "
            "run `robosteer teleop cert renew`"
        ) from error
    if path.stat().st_mode & 0o077:
        raise RobosteerError(f"{path}: found a key that others may read, expected mode 0600; run `chmod 600 {path}`")
    der = certificate.public_bytes(serialization.Encoding.DER)
    listed = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    return Certificate(path, fingerprint_of(der), tuple(listed), certificate.not_valid_after_utc)


def make_certificate(
    directory: Path, names: list[str], now: datetime.datetime | None = None, reason: str = "asked for"
) -> Certificate:
    """Write a new self-signed ECDSA P-256 key and certificate, atomically, and return it."""
    now = now or datetime.datetime.now(datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "RoboSteer operator page")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = directory / PEM_FILE
    write_private(path, private + certificate.public_bytes(serialization.Encoding.PEM))
    return dataclasses.replace(read_certificate(path), renewed_because=reason)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def write_private(path: Path, data: bytes) -> None:
    """Replace a file atomically by one that only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
