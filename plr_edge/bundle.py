"""A bundle: the exported directory that a board needs, with a digest of every file.

Opens and verifies bundles; `bundle_write` makes them. Knows files, digests and the manifest,
nothing of torch or onnx.

    manifest.json         schema, backbone, cut, levels, preprocessing, parity, sha256 of each file
                          and of itself
    frozen.onnx           image (B, 3, H, W) -> latent, taps (B, T): pooled outputs of frozen blocks
    adaptive.onnx         latent -> feature; a template, `Bundle.splice` puts other weights in
    adaptive.safetensors  the weights of the adaptive part as exported
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.bundle_check import check_facts, file_facts, manifest_digest
from plr_edge.codec import LatentCodec
from plr_edge.errors import BundleError, ConfigError
from plr_edge.files import read_regular
from plr_edge.onnx_check import check_onnx
from plr_edge.preprocessing import Preprocessing
from plr_edge.schedule import Level
from plr_edge.tensors import read_tensors, unique_keys

SCHEMA = 1
FILES = ("frozen.onnx", "adaptive.onnx", "adaptive.safetensors")
_MAX_FILE_BYTES = 1 << 30
_MAX_MANIFEST_BYTES = 4 << 20


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes:
        path: its directory.
        manifest: the parsed manifest.json.
        trusted: its signature was checked against a key that the user trusts.
    """

    path: Path
    manifest: dict[str, Any]
    trusted: bool = False

    @property
    def name(self) -> str:
        """Backbone and cut, for people."""
        return f"{self.manifest['backbone']} cut before {self.manifest['cut']}"

    @property
    def precision(self) -> str:
        """Of the frozen part: fp32, fp16 or int8; int8 with its profile, as in `int8 u8s8`."""
        profile = self.manifest.get("int8_profile")
        precision = str(self.manifest.get("precision", "fp32"))
        return f"{precision} {profile}" if profile else precision

    @property
    def release(self) -> int:
        """Number that only grows from one signed bundle of a kind to the next."""
        return int(self.manifest.get("release", 0))

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """What turns an image into the frozen part's input."""
        return Preprocessing.from_dict(self.manifest["preprocessing"])

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """Levels of the adaptive part, the classifier's input last."""
        return tuple(
            Level(**{**level, "shape": tuple(level["shape"])}) for level in self.manifest["levels"]
        )

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(C, H, W) or (D,) of one latent."""
        return self.levels[0].shape

    @property
    def feature_width(self) -> int:
        """D, the width of the adaptive part's output."""
        return self.levels[-1].width

    @property
    def taps_width(self) -> int:
        """T, the width of what the frozen part returns beside the latent."""
        return int(self.manifest["taps_width"])

    @property
    def frozen_sha256(self) -> str:
        """Digest of the frozen part: latents of different digests must never be mixed."""
        return str(self.manifest["files"]["frozen.onnx"]["sha256"])

    def codec(self, bits: int = 8, pool: int | None = None) -> LatentCodec:
        """Return a codec for this bundle's latents."""
        signed = bool(self.manifest["latent_signed"])
        return LatentCodec(shape=self.latent_shape, bits=bits, pool=pool, signed=signed)

    def read(self, name: str) -> bytes:
        """Return the bytes of a member, verified again.

        Raises:
            BundleError: it is no longer what the manifest says.
        """
        return _read_verified(self.path / name, self.manifest["files"].get(name))

    def splice(self, weights: Mapping[str, np.ndarray]) -> bytes:
        """Return adaptive.onnx with other weights in it.

        The manifest says at which byte of the template each tensor lies, so neither onnx nor torch
        is needed on the board, and the cost is that of a copy.

        Args:
            weights: float32 arrays by state_dict name; all of them.

        Raises:
            BundleError: a name or shape is not that of the template.
        """
        return splice(self.read("adaptive.onnx"), self.manifest["adaptive_slots"], weights)


def splice(
    template: bytes, slots: Mapping[str, Sequence[Any]], weights: Mapping[str, np.ndarray]
) -> bytes:
    """Put weights into a serialised model; see `Bundle.splice`.

    Args:
        template: the model.
        slots: (byte offset, shape) of each weight in it.
        weights: float32 arrays by name.
    """
    if set(weights) != set(slots):
        odd = sorted(set(weights) ^ set(slots))
        raise BundleError(f"weights do not fit the template: {odd[0]!r} is in only one of them")
    pieces: list[Any] = []
    view, at = memoryview(template), 0
    for name, (offset, shape) in sorted(slots.items(), key=lambda slot: slot[1][0]):
        array = np.ascontiguousarray(weights[name], dtype="<f4")
        if list(array.shape) != list(shape):
            raise BundleError(f"weight {name!r} is {array.shape}; the template has {shape}")
        pieces += [view[at:offset], array.data.cast("B")]
        at = offset + array.nbytes
    return b"".join([*pieces, view[at:]])


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
    manifest = _parsed(path / "manifest.json", payload)
    return manifest, {
        name: _read_verified(path / name, manifest["files"].get(name)) for name in FILES
    }


def _check_signature(path: Path, payload: bytes, trust: Path) -> None:
    from plr_edge.signing import SIGNATURE, verify

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


def _parsed(file: Path, payload: bytes) -> dict[str, Any]:
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


def _read_verified(file: Path, facts: Any) -> bytes:
    try:
        data = read_regular(file, _MAX_FILE_BYTES)
    except OSError as error:
        raise BundleError(
            f"cannot read {file}: {error.strerror}; export the bundle again"
        ) from None
    if not isinstance(facts, dict) or file_facts(data)["sha256"] != facts.get("sha256"):
        raise BundleError(f"{file} does not match its sha256; copy or export the bundle again")
    return data
