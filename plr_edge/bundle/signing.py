"""Ed25519 signatures of bundles. The only module that imports cryptography (extra `sign`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plr_edge.errors import BundleError, ConfigError, load


def read_private_key(key: Path) -> Any:
    """Read a private Ed25519 key (PEM, not encrypted).

    Raises:
        ConfigError: the file is not such a key.
        MissingExtraError: cryptography is not installed.
    """
    ed25519, serialization = _library()
    try:
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{key} is not a private key ({error}); make one with "
            f"`openssl genpkey -algorithm ed25519 -out {key}`"
        ) from None
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise ConfigError(f"{key} holds another kind of key; give an Ed25519 key")
    return private


def sign(payload: bytes, key: Path) -> bytes:
    """Sign the bytes of a manifest.

    Args:
        payload: the bytes of manifest.json.
        key: private Ed25519 key (PEM, not encrypted).

    Returns:
        The signature, 64 bytes.

    Raises:
        ConfigError: the file is not such a key.
        MissingExtraError: cryptography is not installed.
    """
    return bytes(read_private_key(key).sign(payload))


def verify(payload: bytes, signature: bytes, trusted: Path) -> None:
    """Check the signature of a manifest.

    Args:
        payload: the bytes of manifest.json.
        signature: its signature.
        trusted: trusted public Ed25519 key (PEM).

    Raises:
        BundleError: the signature was made with another key, or for other bytes.
        ConfigError: the file is not such a key.
        MissingExtraError: cryptography is not installed.
    """
    ed25519, serialization = _library()
    from cryptography.exceptions import InvalidSignature

    try:
        public = serialization.load_pem_public_key(trusted.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{trusted} is not a public key ({error}); make one with "
            f"`openssl pkey -in KEY -pubout -out {trusted}`"
        ) from None
    if not isinstance(public, ed25519.Ed25519PublicKey):
        raise ConfigError(f"{trusted} holds another kind of key; give an Ed25519 key")
    try:
        public.verify(signature, payload)
    except InvalidSignature:
        raise BundleError(f"the manifest is not signed by {trusted}; do not use it") from None


def _library() -> tuple[Any, Any]:
    primitives = "cryptography.hazmat.primitives"
    ed25519 = load(f"{primitives}.asymmetric.ed25519", "sign", why="a signature")
    return ed25519, load(f"{primitives}.serialization", "sign", why="a signature")
