"""Opening a bundle: every byte is verified before anything is built from it."""

from __future__ import annotations

from pathlib import Path

from plr_edge.bundle.bundle import Bundle
from plr_edge.bundle.bundle_files import verified
from plr_edge.bundle.check import check_facts
from plr_edge.bundle.onnx_check import check_onnx
from plr_edge.errors import BundleError, ConfigError
from plr_edge.tensors import read_tensors


def open_bundle(path: str | Path, trust: Path | None = None) -> Bundle:
    """Open a bundle and verify every byte of it.

    Args:
        path: its directory.
        trust: public key (PEM) that must have signed the manifest.

    Raises:
        BundleError: a file is missing, too large, does not match its sha256, is not signed by the
            key, or holds what no bundle of ours does.
    """
    path = Path(path)
    manifest, files = verified(path, trust)
    bundle = Bundle(path, manifest, trusted=trust is not None)
    try:
        check_facts(bundle, len(files["adaptive.onnx"]))
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        ConfigError,
        OverflowError,
    ) as error:
        reason = str(error)[:200]
        raise BundleError(
            f"{path}/manifest.json is not whole ({reason}); export it again"
        ) from None
    for name, data in files.items():
        try:
            check_onnx(data) if name.endswith(".onnx") else read_tensors(data)
        except ValueError as error:
            raise BundleError(f"{path / name} is refused: {error}") from None
    return bundle
