"""Writing a bundle, so that at any instant it is there whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plr_edge.bundle.bundle import Bundle
from plr_edge.bundle.bundle_files import SCHEMA, file_facts, manifest_digest
from plr_edge.errors import BundleError
from plr_edge.files import sync_folder, write_synced


def write_bundle(
    path: Path,
    files: Mapping[str, bytes],
    manifest: dict[str, Any],
    *,
    force: bool = False,
    key: Path | None = None,
) -> Bundle:
    """Write a bundle.

    Args:
        path: the directory to make.
        files: bytes of each of `FILES`.
        manifest: facts; digests are added here.
        force: replace a bundle that is there.
        key: private key (PEM) to sign the manifest with.

    Raises:
        BundleError: something is in the way, or the disk refuses.
    """
    if path.exists() and not force:
        raise BundleError(f"{path} exists; choose another -o, or add --force to replace it")
    if path.exists() and not (path / "manifest.json").is_file():
        raise BundleError(f"{path} exists and is no bundle; choose another -o")
    digests = {name: file_facts(data) for name, data in files.items()}
    manifest = {"schema": SCHEMA, **manifest, "files": digests}
    manifest["sha256"] = manifest_digest(manifest)
    payload = json.dumps(manifest, indent=1).encode()
    members = {**files, "manifest.json": payload}
    if key is not None:
        from plr_edge.bundle.signing import SIGNATURE, sign

        members[SIGNATURE] = sign(payload, key)
    try:
        _put(path, members)
    except OSError as error:
        raise BundleError(f"cannot write {path}: {error.strerror}; nothing was kept") from None
    return Bundle(path, manifest)


def _put(path: Path, members: Mapping[str, bytes]) -> None:
    """Write members beside the place, make them durable, then let them take it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    old = partial.with_name(f"{partial.name}.old")
    try:
        for name, data in members.items():
            write_synced(partial / name, data)
        partial.chmod(0o755)
        sync_folder(partial)
        if path.exists():  # what is deleted in place could be met half there
            os.replace(path, old)
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
    finally:
        for rest in (partial, old):
            shutil.rmtree(rest, ignore_errors=True)
