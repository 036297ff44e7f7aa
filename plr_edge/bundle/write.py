"""Writing a bundle atomically: at any instant it exists as a whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plr_edge.bundle.bundle import Bundle
from plr_edge.bundle.manifest import (
    EARLIER_FILES,
    FILES,
    SCHEMA,
    SIGNATURE,
    manifest_digest,
    member_entry,
)
from plr_edge.errors import BundleError, may_pass
from plr_edge.files import sync_folder, write_synced

_MEMBERS = {*FILES, *EARLIER_FILES, "manifest.json", SIGNATURE}


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
        path: directory to create.
        files: bytes of each member in `FILES`, by name.
        manifest: entries of the manifest; schema and digests are added here.
        force: replace an existing bundle.
        key: private key (PEM) to sign the manifest with; unsigned by default.

    Raises:
        BundleError: the path exists, holds more than a bundle, or the disk refuses.
        ConfigError: the file is not a private key.
    """
    check_target(path, force=force)
    digests = {name: member_entry(data) for name, data in files.items()}
    manifest = {"schema": SCHEMA, **manifest, "files": digests}
    manifest["sha256"] = manifest_digest(manifest)
    payload = json.dumps(manifest, indent=1).encode()
    members = {**files, "manifest.json": payload}
    if key is not None:
        from plr_edge.bundle.signing import sign

        members[SIGNATURE] = sign(payload, key)
    try:
        _put(path, members)
    except OSError as error:
        raise BundleError(
            f"cannot write {path}: {error.strerror}; nothing was written", can_pass=may_pass(error)
        ) from None
    return Bundle(path, manifest)


def check_target(path: Path, *, force: bool) -> None:
    """Refuse a path where a bundle cannot or must not be written.

    Args:
        path: directory to create.
        force: replace an existing bundle. Nothing but the files of a bundle is ever replaced.

    Raises:
        BundleError: the path exists and `force` is not given, or it is not a bundle, holds more
            than a bundle, or cannot be created.
    """
    try:
        if path.is_symlink() or path.exists():
            if not force:
                raise BundleError(f"{path} exists; choose another -o, or add --force to replace it")
            if path.is_symlink() or not (path / "manifest.json").is_file():
                raise BundleError(f"{path} exists and is not a bundle; choose another -o")
            foreign = sorted({entry.name for entry in path.iterdir()} - _MEMBERS)
            if foreign:
                raise BundleError(
                    f"{path} holds more than a bundle: {', '.join(foreign)[:200]}; move that away, "
                    "or choose another -o"
                )
        there = next(folder for folder in path.absolute().parents if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise BundleError(f"cannot write in {there}; choose another -o")
    except OSError as error:
        raise BundleError(f"cannot write {path}: {error.strerror}; choose another -o") from None


def _put(path: Path, members: Mapping[str, bytes]) -> None:
    """Write the members to a temporary folder, sync it, and rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    old = partial.with_name(f"{partial.name}.old")
    try:
        for name, data in members.items():
            write_synced(partial / name, data)
        partial.chmod(0o755)
        sync_folder(partial)
        if path.exists():  # deleting it in place would leave half a bundle for a moment
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
