"""Ed25519 signatures of bundles. The only module that imports cryptography, an extra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plr_edge.errors import BundleError, ConfigError, load

SIGNATURE = "manifest.sig"


def sign(payload: bytes, key: Path) -> bytes:
    """Sign the bytes of a manifest with a private key (PEM, not encrypted).

    Raises:
        ConfigError: the file holds no such key.
    """
    ed25519, serialization = _library()
    try:
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{key} is no private key ({error}); make one with "
            f"`openssl genpkey -algorithm ed25519 -out {key}`"
        ) from None
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise ConfigError(f"{key} is of another kind than Ed25519")
    return bytes(private.sign(payload))


def verify(payload: bytes, signature: bytes, trusted: Path) -> None:
    """Check a signature against a trusted public key (PEM).

    Raises:
        BundleError: the signature is not of this key, or of other bytes.
        ConfigError: the file holds no public key.
    """
    ed25519, serialization = _library()
    from cryptography.exceptions import InvalidSignature

    try:
        public = serialization.load_pem_public_key(trusted.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{trusted} is no public key ({error}); make one with "
            f"`openssl pkey -in KEY -pubout -out {trusted}`"
        ) from None
    if not isinstance(public, ed25519.Ed25519PublicKey):
        raise ConfigError(f"{trusted} is of another kind than Ed25519")
    try:
        public.verify(signature, payload)
    except InvalidSignature:
        raise BundleError(f"the manifest is not signed by {trusted}; do not use it") from None


def _library() -> tuple[Any, Any]:
    primitives = "cryptography.hazmat.primitives"
    ed25519 = load(f"{primitives}.asymmetric.ed25519", "sign", why="a signature")
    return ed25519, load(f"{primitives}.serialization", "sign", why="a signature")
