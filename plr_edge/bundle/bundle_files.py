"""The files of a bundle: their names, their digests, and reading them verified."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plr_edge.errors import BundleError
from plr_edge.files import read_regular
from plr_edge.tensors import unique_keys

SCHEMA = 1
FILES = ("frozen.onnx", "adaptive.onnx", "adaptive.safetensors")
_MAX_FILE_BYTES = 1 << 30
_MAX_MANIFEST_BYTES = 4 << 20


def file_facts(data: bytes) -> dict[str, Any]:
    """Return what a manifest says of a member."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Return the sha256 of what a manifest says, apart from this digest."""
    rest = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def verified(path: Path, trust: Path | None = None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read a bundle and hold every byte of it against its digest; what it says is not looked at.

    Returns:
        the manifest, and the bytes of each member.

    Raises:
        BundleError: see `open_bundle`.
    """
    payload = _read_manifest_bytes(path)
    if trust is not None:
        _check_signature(path, payload, trust)
    manifest = parsed(path / "manifest.json", payload)
    return manifest, {
        name: read_verified(path / name, manifest["files"].get(name)) for name in FILES
    }


def _check_signature(path: Path, payload: bytes, trust: Path) -> None:
    from plr_edge.bundle.signing import SIGNATURE, verify

    try:
        signature = read_regular(path / SIGNATURE, 64)
    except OSError:
        raise BundleError(
            f"{path} is not signed; sign it with `plr-edge export --sign`, or leave --trust out"
        ) from None
    verify(payload, signature, trust)


def _read_manifest_bytes(path: Path) -> bytes:
    file = path / "manifest.json"
    try:
        return read_regular(file, _MAX_MANIFEST_BYTES)
    except FileNotFoundError:
        raise BundleError(
            f"{path} is no bundle: no manifest.json; make one with `plr-edge export`"
        ) from None
    except OSError as error:
        raise BundleError(f"cannot read {file} ({error.strerror}); export it again") from None


def parsed(file: Path, payload: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(payload.decode(), object_pairs_hook=unique_keys)
        if not isinstance(manifest, dict) or not isinstance(manifest["files"], dict):
            raise ValueError("not an object with files")
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


def read_verified(file: Path, facts: Any) -> bytes:
    try:
        data = read_regular(file, _MAX_FILE_BYTES)
    except OSError as error:
        raise BundleError(
            f"cannot read {file}: {error.strerror}; export the bundle again"
        ) from None
    if not isinstance(facts, dict) or file_facts(data)["sha256"] != facts.get("sha256"):
        raise BundleError(f"{file} does not match its sha256; copy or export the bundle again")
    return data
