"""Access to a robot: its tokens, certificate and names, and where its own commands find it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from plr_edge.errors import ConfigError
from plr_edge.serve.address import HostCheck, is_loopback
from plr_edge.serve.auth import TokenCheck
from plr_edge.serve.certificate import Certificate, given_certificate, own_certificate
from plr_edge.serve.owner import renew_if_copied
from plr_edge.serve.tokens import TokenFiles, write_private

_FILE = "serving.json"  # in the state, while a robot serves


@dataclass(frozen=True)
class Access:
    """Who may see and do what.

    Attributes:
        check: checks the tokens of requests.
        hosts: names that the robot answers to.
        certificate: what the interface is encrypted with. None if it is not encrypted.
    """

    check: TokenCheck
    hosts: HostCheck
    certificate: Certificate | None


@dataclass(frozen=True)
class Address:
    """Where a robot answers.

    Attributes:
        listen: `HOST:PORT` or `unix:PATH`.
        fingerprint: SHA-256 of its certificate. None if it is not encrypted.
    """

    listen: str
    fingerprint: str | None = None

    @property
    def url(self) -> str:
        """Address of the page, or `unix:PATH`."""
        if self.listen.startswith("unix:"):
            return self.listen
        return f"http{'' if self.fingerprint is None else 's'}://{self.listen}/"


def make_access(
    state: Path,
    listen: str,
    *,
    certificate: tuple[Path, Path] | None = None,
    insecure: bool = False,
    names: Sequence[str] = (),
) -> Access:
    """Make what protects an address: tokens, and TLS where other machines reach it.

    Args:
        state: directory of the state, which holds the tokens and the certificate.
        listen: `HOST:PORT` or `unix:PATH`.
        certificate: certificate and private key to use, in PEM.
        insecure: do not encrypt, although other machines reach the address.
        names: further names that the robot answers to.

    Raises:
        ConfigError: a token or the certificate cannot be used.
        MissingExtraError: the extra `serve` is not installed.
    """
    local = is_loopback(listen)
    if insecure and certificate is not None:
        raise ConfigError("--insecure and --certificate contradict each other; give one of them")
    if certificate is not None and listen.startswith("unix:"):
        raise ConfigError("a Unix socket is not encrypted; leave out --certificate")
    if insecure and local:
        raise ConfigError(
            f"--insecure is for an address that other machines reach, and {listen} is not one"
        )
    renew_if_copied(state)
    check = TokenCheck(TokenFiles(state), open_reading=local)
    own = None
    if certificate is not None:
        own = given_certificate(*certificate)
    elif not local and not insecure:
        own = own_certificate(state)
    return Access(check, HostCheck(listen, names), own)


def tell_address(state: Path, address: Address) -> None:
    """Write down where a robot answers, for commands that know its state."""
    with suppress(OSError):  # they need --listen then
        text = json.dumps({**asdict(address), "pid": os.getpid()})
        write_private(state / _FILE, text.encode(), replace=True)


def withdraw_address(state: Path) -> None:
    """Delete what `tell_address` wrote."""
    with suppress(OSError):
        (state / _FILE).unlink()


def address_of(state: Path) -> Address | None:
    """Return where the robot that uses a state answers, None if no robot says so."""
    try:
        facts = json.loads((state / _FILE).read_text(encoding="utf-8"))
        os.kill(int(facts["pid"]), 0)
        return Address(str(facts["listen"]), facts["fingerprint"])
    except PermissionError:  # it runs, as another user
        return Address(str(facts["listen"]), facts["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
