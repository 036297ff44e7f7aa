"""A bundle: the exported directory that a board needs, with a digest of every file.

`reading` opens and verifies bundles, `write` makes them. Knows files, digests and the manifest,
nothing of torch or onnx.

    manifest.json         schema, backbone, cut, levels, preprocessing, parity, sha256 of each file
                          and of itself
    frozen.onnx           image (B, 3, H, W) -> latent, taps (B, T): pooled outputs of frozen blocks
    adaptive.onnx         latent -> feature; a template, `Bundle.splice` puts other weights in
    adaptive.safetensors  the weights of the adaptive part as exported
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.bundle.bundle_files import read_verified
from plr_edge.bundle.preprocessing import Preprocessing
from plr_edge.errors import BundleError
from plr_edge.replay.latent_codec import LatentCodec, make_codec
from plr_edge.replay.schedule import Level


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

    def codec(self, bits: int = 8, pool: int | None = None, *, name: str = "linear") -> LatentCodec:
        """Return a codec for this bundle's latents; `name` is one of `CODECS`."""
        signed = bool(self.manifest["latent_signed"])
        return make_codec(name, self.latent_shape, bits=bits, pool=pool, signed=signed)

    def read(self, name: str) -> bytes:
        """Return the bytes of a member, verified again.

        Raises:
            BundleError: it is no longer what the manifest says.
        """
        return read_verified(self.path / name, self.manifest["files"].get(name))

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
