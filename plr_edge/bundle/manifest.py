"""The manifest and the members of a bundle: their names, their digests, and verified reading."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plr_edge.errors import BundleError, may_pass
from plr_edge.files import read_regular
from plr_edge.tensors import unique_keys

SCHEMA = 1
FILES = ("frozen.onnx", "adaptive.onnx")
EARLIER_FILES = ("adaptive.safetensors",)  # of earlier releases: the weights a second time
SIGNATURE = "manifest.sig"
_MAX_FILE_BYTES = 1 << 30
_MAX_MANIFEST_BYTES = 4 << 20


def member_entry(data: bytes) -> dict[str, Any]:
    """Return the manifest entry of a member: its sha256 and its size in bytes."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Return the sha256 of a manifest without its own `sha256` entry."""
    rest = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_verified(path: Path, trust: Path | None = None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read manifest and members, and check every byte against its digest.

    The values in the manifest are not checked here.

    Args:
        path: directory of the bundle.
        trust: public key (PEM) that must have signed the manifest; not checked by default.

    Returns:
        manifest: the parsed manifest.
        members: bytes of each member by name.

    Raises:
        BundleError: a file is missing, too large or damaged, or the signature does not match.
    """
    payload = _read_manifest(path)
    if trust is not None:
        _check_signature(path, payload, trust)
    manifest = parse_manifest(path / "manifest.json", payload)
    names = (*FILES, *(name for name in EARLIER_FILES if name in manifest["files"]))
    return manifest, {name: read_member(path / name, manifest["files"].get(name)) for name in names}


def _check_signature(path: Path, payload: bytes, trust: Path) -> None:
    from plr_edge.bundle.signing import verify

    try:
        signature = read_regular(path / SIGNATURE, 64)
    except OSError:
        raise BundleError(
            f"{path} is not signed; sign it with `plr-edge export --sign`, or leave out --trust"
        ) from None
    verify(payload, signature, trust)


def _read_manifest(path: Path) -> bytes:
    file = path / "manifest.json"
    try:
        return read_regular(file, _MAX_MANIFEST_BYTES)
    except FileNotFoundError:
        raise BundleError(
            f"{path} is not a bundle: it has no manifest.json; make one with `plr-edge export`"
        ) from None
    except OSError as error:
        raise BundleError(
            f"cannot read {file} ({error.strerror}); export it again", can_pass=may_pass(error)
        ) from None


def parse_manifest(file: Path, payload: bytes) -> dict[str, Any]:
    """Parse a manifest and check its schema and its own digest.

    Args:
        file: where it was read; for messages.
        payload: its bytes.

    Raises:
        BundleError: it is damaged, or written by another version.
    """
    try:
        manifest = json.loads(payload.decode(), object_pairs_hook=unique_keys)
        if not isinstance(manifest, dict) or not isinstance(manifest["files"], dict):
            raise ValueError("it is not an object with files")
    except (ValueError, KeyError, RecursionError) as error:
        raise BundleError(f"cannot read {file} ({error}); export the bundle again") from None
    if manifest.get("schema") != SCHEMA:
        raise BundleError(
            f"{file} has schema {str(manifest.get('schema'))[:20]}; this version reads {SCHEMA}; "
            "export it again"
        )
    if manifest.get("sha256") != manifest_digest(manifest):
        raise BundleError(f"{file} does not match its own sha256; copy or export the bundle again")
    return manifest


def read_member(file: Path, entry: Any) -> bytes:
    """Read a member and check it against its manifest entry.

    Args:
        file: the member.
        entry: its manifest entry; anything but a matching one is refused.

    Raises:
        BundleError: it cannot be read, or does not match.
    """
    try:
        data = read_regular(file, _MAX_FILE_BYTES)
    except OSError as error:
        raise BundleError(
            f"cannot read {file}: {error.strerror}; export the bundle again",
            can_pass=may_pass(error),
        ) from None
    if not isinstance(entry, dict) or member_entry(data)["sha256"] != entry.get("sha256"):
        raise BundleError(f"{file} does not match its sha256; copy or export the bundle again")
    return data
