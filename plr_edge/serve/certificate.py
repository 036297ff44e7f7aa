"""The certificate of a robot: a given one, or a self-signed one that it makes at its first start.

A client that knows the SHA-256 fingerprint of a self-signed certificate needs no authority. Needs
the extra `serve`.
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from plr_edge.errors import ConfigError, load, may_pass
from plr_edge.serve.tokens import read_private, write_private

FILE = "tls.pem"  # key and certificate, readable by its owner only
# fixed dates: a robot without a clock battery makes it in 1970, and browsers check it
_FROM, _UNTIL = datetime(2020, 1, 1), datetime(2049, 12, 31)
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class Certificate:
    """Files of a certificate.

    Attributes:
        chain: file with the certificate, and those that signed it.
        key: file with its private key.
        fingerprint: SHA-256 of the certificate, in hexadecimal digits.
    """

    chain: Path
    key: Path
    fingerprint: str


def given_certificate(chain: Path, key: Path) -> Certificate:
    """Return a certificate from files that the user names.

    Raises:
        ConfigError: they cannot be read, or do not fit each other.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key)
        return Certificate(chain, key, fingerprint_of(chain.read_text(encoding="ascii")))
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot use the certificate {chain} with the key {key} ({reason}); give a certificate "
            "in PEM and its private key, without a password"
        ) from None


def own_certificate(state: Path) -> Certificate:
    """Return the self-signed certificate of a state, and make it at the first call.

    Raises:
        ConfigError: it is damaged, can be read by others, or cannot be written.
        MissingExtraError: `cryptography` is not installed.
    """
    file = state / FILE
    if not file.exists() and not file.is_symlink():
        data = _self_signed(socket.gethostname())
        try:
            write_private(file, data, replace=False)
        except OSError as error:
            raise ConfigError(
                f"cannot make {file}: {error.strerror}; check the disk and who owns the folder",
                can_pass=may_pass(error),
            ) from None
    advice = f"delete {file}, and the next start makes a new one, which clients must then trust"
    read_private(file, advice)
    try:
        return given_certificate(file, file)
    except ConfigError:
        raise ConfigError(f"{file} is damaged; {advice}") from None


def fingerprint_of(pem: str) -> str:
    """Return the fingerprint of the first certificate in a PEM text.

    Raises:
        ValueError: there is none.
    """
    match = _CERTIFICATE.search(pem)
    if match is None:
        raise ValueError("it holds no certificate")
    return hashlib.sha256(base64.b64decode(match[1])).hexdigest()


def read_fingerprint(text: str) -> str:
    """Return a fingerprint as a user writes it: 64 hexadecimal digits, with or without colons.

    Raises:
        ConfigError: it is something else.
    """
    digits = text.strip().lower().removeprefix("sha256:").replace(":", "")
    if not re.fullmatch("[0-9a-f]{64}", digits):
        raise ConfigError(
            f"the fingerprint is {text[:80]!r}; write the 64 hexadecimal digits that "
            "`plr-edge run` prints"
        )
    return digits


def _self_signed(host: str) -> bytes:
    """Return a new key and its certificate, in PEM."""
    load("cryptography", "serve", why="an encrypted HTTP interface")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    host = "".join(c for c in host.encode("ascii", "ignore").decode() if c.isalnum() or c in "-.")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, (host or "robot")[:64])])
    names = dict.fromkeys([host or "robot", f"{(host or 'robot').split('.')[0]}.local"])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)
